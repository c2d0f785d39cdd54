"""Words, tricks and forms that the fuzzer makes paths and queries of."""

from tests.fakes.ehr import PATIENT

OWN, OWN_SERIES, OWN_INSTANCE = "1.2.840.1", "1.2.840.1.1", "1.2.840.1.1.1"
FOREIGN, FOREIGN_SERIES, FOREIGN_INSTANCE = "1.2.840.9", "1.2.840.9.1", "1.2.840.9.1.1"
FOREIGN_PATIENT, SECRET = "p2", "SECRET^NAME"
WORDS = [
    "fhir", "Patient", PATIENT, FOREIGN_PATIENT, "$wado-rs", "%24wado-rs", "wado-rs", "studies",
    "series", "instances",
    OWN, OWN_SERIES, OWN_INSTANCE, FOREIGN, FOREIGN_SERIES, FOREIGN_INSTANCE, "metadata",
    "rendered", "thumbnail",
    "frames", "1", "1,2", "bulkdata", "bulk", "7FE00010", "pixeldata", "ImagingStudy", "_search",
    "Endpoint", "rs",
]  # fmt: skip
TRICKS = [
    "", ".", "..", "%2e%2e", "%2f", "%5c", "..;", ";", ",", "*", "%00", "%0d%0a", "%252e", "%c0%ae",
    "//", "\\", "?", "#",
    "$", "%24", "%", "@", "!", " ", "\t", "\u0661", "１", "%ef%bc%8e", f"{OWN},{FOREIGN}",
    f"{OWN}%2c{FOREIGN}",
    f"{OWN}\\{FOREIGN}", f"http://pacs/rs/studies/{FOREIGN}", "~", "+", "&", "=", "\x7f",
]  # fmt: skip
NAMES = [
    "PatientID", "00100020", "patientid", "PatientId", "IssuerOfPatientID", "00100021",
    "OtherPatientIDs", "StudyInstanceUID",
    "0020000D", "SeriesInstanceUID", "SOPInstanceUID", "includefield", "limit", "offset",
    "fuzzymatching", "accept",
    "patient", "subject", "subject:Patient", "patient.identifier", "identifier", "_id", "_count",
    "_after", "_include",
    "PatientName", "OtherPatientIDsSequence.PatientID", "viewport", "window", "Patient%49D",
    "Patient\u0130D",
]  # fmt: skip
FORMS = [
    ["fhir", "Patient", PATIENT, "$wado-rs", "studies", OWN, "series", OWN_SERIES, "instances",
     OWN_INSTANCE],
    ["fhir", "Patient", PATIENT, "$wado-rs", "studies", FOREIGN, "series", FOREIGN_SERIES],
    ["wado-rs", "studies", OWN, "series", FOREIGN_SERIES, "instances", FOREIGN_INSTANCE, "frames",
     "1"],
    ["wado-rs", "studies"], ["wado-rs", "instances"], ["fhir", "ImagingStudy"],
    ["fhir", "ImagingStudy", FOREIGN],
]  # fmt: skip
