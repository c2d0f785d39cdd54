# An external decision on studies (docs/authorization.md, "External decision"). It can only take away: what it allows must
# be permitted by token, scopes, clients and rules of the sidecar as well.
#   opa run --server --addr 127.0.0.1:8181 config/opa/imaging.rego
#   access: {external: {url: "http://127.0.0.1:8181/v1/data/imaging/access"}}
package imaging

import rego.v1

# What nothing below allows is refused.
default access := {"allow": false}

access := {"allow": true, "exclude_series": excluded_series} if {
	allowed
	not sensitive
}

# The hospital's own portal shows patients everything; other apps what was taken in the last ten years.
allowed if input.client_id == "portal"

allowed if {
	input.client_id != "portal"
	some date in input.study.StudyDate
	date >= ten_years_ago
}

ten_years_ago := time.format([time.add_date(time.now_ns(), -10, 0, 0), "UTC", "20060102"])

# Studies of occupational health go to nobody by this way.
sensitive if {
	some service in input.study.RequestingService
	contains(lower(service), "occupational")
}

# Dose reports are for staff.
excluded_series := [series.SeriesInstanceUID |
	some series in input.series
	"SR" in series.Modality
]
