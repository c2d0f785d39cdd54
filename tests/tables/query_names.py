"""Names of query parameters: spellings that are refused, and points in sequences."""

POINTS = {
    "StudyDate": (
        ["20240101", "2024.01.01", "20240101-", "-20240101", "20240101-20240201",
            "20240101 - 20240201", " 20240101 ",
         "*", "20240101\\20240102"],
        ["x", "2024", "202401", "2024-01-01", "20240101-x", "-", "20240101--", "20240101,20240102",
            "2024010１", "?",
         "20240101\\", "lt20240101"]),
    "StudyTime": (
        ["09", "0915", "091500", "091500.123456", "09:15:00", "0900-1000", "-1200", "1200-"],
        ["9", "noon", "09150", "091500.", "09-10-11", "9am"]),
    "AcquisitionDateTime": (
        ["2024", "202401010915", "20240101091500.5+0100", "2024-2025"],
        ["x", "20240101T0915", "2024-01-01T09:15:00Z"]),
}  # fmt: skip
OTHER_SPELLINGS = [
    "patientid", "PATIENTID", "Patientid", "patientID", "PatientID ", " PatientID", "PatientID\t",
    "PatientID\x00", "PatientId", "Patient ID", "PatientID[]", "PatientID:exact", "PatientＩD",
    "(0010,0020)", "0010,0020", "0010-0020", "x00100020", "0x00100020", "00100020 ", " 00100020",
    "0010002", "001000200", "００100020", "00100020.", ".00100020", "00100020..00100020", "", ".",
    "PatientID.", "patient", "StudyInstanceUid", "studyUID", "subject", "_id", "id", "issuer",
    "other_patient_ids", "limit ", "Limit", "00091001.x", "00091001.\u00e9", '00091001."', "OFFSET",
    "FuzzyMatching", "$x", "#", "includefield[]", "PatientID%00", "PatientID&x",
    "StudyDate;PatientID",
]  # fmt: skip
IGNORED = [
    "studies", "_count", "includeField", "orderby", "99991001", "00091001", "77770010", "merged",
    "_has", "_filter", "__proto__", "_", "0009100a", "00400275.00091001", "00091001.00100020",
]  # fmt: skip
