"""Paths that have no form of PS3.18, and texts that are no UID."""

STUDY, SERIES, INSTANCE = "1.2.840.1", "1.2.840.1.1", "1.2.840.1.1.1"
OF_STUDY = f"studies/{STUDY}"
OF_SERIES = f"{OF_STUDY}/series/{SERIES}"
OF_INSTANCE = f"{OF_SERIES}/instances/{INSTANCE}"
NO_FORM = [
    "", "/", "study", "patients", "STUDIES", "Studies", "studies ", " studies", "STUDIES/1.2",
    "ｓtudies",
    f"series/{SERIES}", f"instances/{INSTANCE}", f"series/{SERIES}/instances/{INSTANCE}",
    f"series/{SERIES}/metadata",
    f"instances/{INSTANCE}/metadata", f"instances/{INSTANCE}/frames/1", f"series/{SERIES}/series",
    f"{OF_STUDY}/instances/{INSTANCE}", f"{OF_STUDY}/instances/{INSTANCE}/frames/1",
    f"{OF_STUDY}/studies",
    f"{OF_STUDY}/studies/{STUDY}", f"{OF_SERIES}/series/{SERIES}", f"{OF_INSTANCE}/instances",
    f"{OF_STUDY}/frames/1", f"{OF_SERIES}/frames/1", f"{OF_STUDY}/frames/1/rendered",
    f"{OF_INSTANCE}/frames",
    f"{OF_INSTANCE}/frames/1/metadata", f"{OF_INSTANCE}/frames/1/rendered/1",
    f"{OF_INSTANCE}/rendered/frames/1",
    f"{OF_STUDY}/metadata/metadata", f"{OF_STUDY}/METADATA", f"{OF_STUDY}/metadata.json",
    f"{OF_STUDY}/archive",
    f"{OF_STUDY}/", f"{OF_STUDY}//series", f"{OF_STUDY}/metadata/", f"{OF_STUDY}/reject/113001^DCM",
    f"{OF_STUDY}/count",
    f"{OF_STUDY}/bulkdata/7FE00010", f"{OF_SERIES}/bulkdata/7FE00010", f"{OF_INSTANCE}/bulkdata/",
    f"{OF_INSTANCE}/bulkdata/pixelData", f"{OF_INSTANCE}/bulkdata/PixelDatum",
    f"{OF_INSTANCE}/bulkdata/7FE0001", f"{OF_INSTANCE}/bulkdata/7FE000100",
    f"{OF_INSTANCE}/bulkdata/..", f"{OF_INSTANCE}/bulkdata/7FE00010/..",
    f"{OF_INSTANCE}/bulkdata/7FE00010/123456",
    f"{OF_INSTANCE}/bulkdata/７FE00010", f"{OF_INSTANCE}/bulkdata/http:",
    f"{OF_INSTANCE}/bulkdata/7FE00010\n",
    f"{OF_INSTANCE}/bulkdata/" + "/".join(["1"] * 34), f"{OF_INSTANCE}/pixeldata/1",
    f"{OF_INSTANCE}/pixeldata/..",
]  # fmt: skip
NO_UID = [
    "", ".", "..", "...", "1.", ".1", "1..2", "1.2.", "1.2.3..", "..1.2", "1.2.3 ", " 1.2.3",
    "1.2.3\n", "1.2\x00",
    "1.2.3\\1.2.4", "1.2.3,1.2.4", "1.2.*", "*", "1.2.?", "1.2;x", "1.2.3;jsessionid=1", "1.2/3",
    "1.2%2F3", "%2e%2e",
    "..;", "1.2.3?x", "1.2.3#x", "1.２", "１.2", "1．2", "1.-2", "1.+2", "1.2e1", "1.0x1", "count",
    "$x",
    "1." + "2" * 127,
]  # fmt: skip
