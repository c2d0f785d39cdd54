# opa test config/opa
package imaging_test

import data.imaging
import rego.v1

study := {"StudyInstanceUID": "1.2", "StudyDate": ["20000101"], "RequestingService": ["RADIOLOGY"]}

series := [
	{"SeriesInstanceUID": "1.2.1", "Modality": ["CT"]},
	{"SeriesInstanceUID": "1.2.2", "Modality": ["SR"]},
]

test_the_portal_shows_all_but_dose_reports if {
	imaging.access == {"allow": true, "exclude_series": ["1.2.2"]} with input as {
		"client_id": "portal",
		"study": study,
		"series": series,
	}
}

test_other_apps_have_no_old_studies if {
	imaging.access == {"allow": false} with input as {"client_id": "app", "study": study, "series": series}
	new := object.union(study, {"StudyDate": ["29991231"]})
	imaging.access.allow with input as {"client_id": "app", "study": new, "series": series}
}

test_a_study_without_date_is_not_new if {
	undated := object.remove(study, ["StudyDate"])
	not imaging.access.allow with input as {"client_id": "app", "study": undated, "series": series}
}

test_occupational_health_is_for_nobody if {
	hidden := object.union(study, {"RequestingService": ["Occupational Health"]})
	not imaging.access.allow with input as {"client_id": "portal", "study": hidden, "series": series}
}
