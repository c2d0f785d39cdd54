"""Values and paths of searches that ask for what is another patient's."""

from tests.tables.fuzz import FOREIGN, FOREIGN_INSTANCE, FOREIGN_SERIES, OWN, OWN_SERIES

VALUES = (
    "p1", "p2", "Patient/p1", "CT", "CT,MR", "true", "false", "ge2020", "lt9999", "eq2020-02-30",
    "ne", "ap2020",
    "2020-01-01T00:00:00Z", f"urn:oid:{OWN}", f"urn:oid:{FOREIGN}", OWN, FOREIGN, FOREIGN_SERIES,
    OWN_SERIES,
    FOREIGN_INSTANCE, "|", "||", "a|b|c", "\\", "\\,", "", "*", "ImagingStudy:endpoint", "0", "-1",
    "500", "9" * 17,
    "started", "-started,_lastUpdated", "count", "text", "json", "xml", "json;fhirVersion=5.0",
    "x" * 300, "\0", "é",
    "urn:dicom:uid|", "http://x|y", "sa0001", "eb9999-12-31T23:59:59.999999999-14:00", "available",
    "address,status",
)  # fmt: skip
PATHS = (
    "/fhir/ImagingStudy", "/fhir/Patient/p1/ImagingStudy", f"/fhir/ImagingStudy/{OWN}",
    f"/fhir/ImagingStudy/{FOREIGN}",
    "/fhir/ImagingStudy/x", "/fhir/Endpoint/p1", "/fhir/Endpoint/p2", "/wado-rs/studies",
    "/wado-rs/series",
    "/wado-rs/instances", "/fhir/metadata",
)  # fmt: skip
