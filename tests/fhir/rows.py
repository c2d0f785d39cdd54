"""Rows as archives answer them (DICOM JSON Model, PS3.18 Annex F), and rows as none should."""

from typing import Any

from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR

from sidecar.dicom.json_model import tag

Row = dict[str, Any]


def element(keyword: str, *values: object) -> dict[str, Any]:
    """An attribute as it is written; without values it is empty."""
    return {"vr": dictionary_VR(keyword)} | ({"Value": list(values)} if values else {})


def row(**attributes: object) -> Row:
    """A row of keywords and single values; ``None`` is an empty attribute, a list has several
    values.
    """
    return {
        tag(keyword): element(
            keyword, *(value if isinstance(value, list) else [] if value is None else [value])
        )
        for keyword, value in attributes.items()
    }


def name(alphabetic: str, **groups: str) -> dict[str, str]:
    """A person name as PS3.18 F.2.2 writes it."""
    return {"Alphabetic": alphabetic} | groups


STUDY_UID = "1.2.840.113619.2.21.848.246800003.0.1952805748.3"

# What Orthanc 1.10.1 (DICOMweb plugin 1.7) answers for an old ultrasound and for an ECG of
# pydicom's test files.
ORTHANC_ULTRASOUND: Row = {
    "00080005": {"Value": ["ISO_IR 100"], "vr": "CS"},
    "00080020": {"Value": ["1997.04.24"], "vr": "DA"},
    "00080030": {"Value": ["14:04:38"], "vr": "TM"},
    "00080061": {"Value": ["US"], "vr": "CS"},
    "00081190": {"Value": [f"http://127.0.0.1:8042/dicom-web/studies/{STUDY_UID}"], "vr": "UR"},
    "00100010": {"Value": [{"Alphabetic": "Anonymized"}], "vr": "PN"},
    "0020000D": {"Value": [STUDY_UID], "vr": "UI"},
    "00201206": {"Value": [1], "vr": "IS"},
    "00201208": {"Value": [1], "vr": "IS"},
}
ORTHANC_EMPTY: Row = {
    "00080005": {"Value": ["ISO_IR 100"], "vr": "CS"},
    "00080020": {"vr": "DA"},
    "00080030": {"vr": "TM"},
    "00080050": {"vr": "SH"},
    "00080061": {"vr": "CS"},
    "00080090": {"vr": "PN"},
    "00080201": {"Value": ["+0000"], "vr": "SH"},
    "00081030": {"vr": "LO"},
    "00081190": {
        "Value": ["http://127.0.0.1:8042/dicom-web/studies/1.2.276.0.7230010.3.1"],
        "vr": "UR",
    },
    "00100010": {"vr": "PN"},
    "00100020": {"vr": "LO"},
    "0020000D": {"Value": ["1.2.276.0.7230010.3.1"], "vr": "UI"},
    "00200010": {"vr": "SH"},
}
DCM4CHEE: Row = {
    "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
    "00080020": {"vr": "DA", "Value": ["20240229"]},
    "00080030": {"vr": "TM", "Value": ["091500.123"]},
    "00080050": {"vr": "SH", "Value": ["A-2024-1"]},
    "00080054": {"vr": "AE", "Value": ["DCM4CHEE"]},
    "00080056": {"vr": "CS", "Value": ["ONLINE"]},
    "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
    "00080090": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Änne^^Dr."}]},
    "00080201": {"vr": "SH", "Value": ["+0100"]},
    "00081030": {"vr": "LO", "Value": ["CT Thorax"]},
    "00081190": {
        "vr": "UR",
        "Value": ["http://arc:8080/dcm4chee-arc/aets/DCM4CHEE/rs/studies/1.2.40.0.13.1.1"],
    },
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
    "00100020": {"vr": "LO", "Value": ["4711"]},
    "00100021": {"vr": "LO", "Value": ["HOSPITAL"]},
    "0020000D": {"vr": "UI", "Value": ["1.2.40.0.13.1.1"]},
    "00201206": {"vr": "IS", "Value": ["2"]},
    "00201208": {"vr": "IS", "Value": ["120"]},
    "77770010": {"vr": "LO", "Value": ["DCM4CHEE Archive 5"]},
    "77771020": {"vr": "DT", "Value": ["20240229091600.000"]},
}

_READ = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "StudyDate",
    "StudyTime",
    "SeriesDate",
    "SeriesTime",
    "TimezoneOffsetFromUTC",
    "AccessionNumber",
    "StudyDescription",
    "SeriesDescription",
    "ModalitiesInStudy",
    "Modality",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
    "SeriesNumber",
    "InstanceNumber",
    "BodyPartExamined",
    "ReferringPhysicianName",
)
_USUAL: list[Any] = [
    "20240229",
    "1997.04.24",
    "2024-02-29",
    "1011",
    "101112.5",
    "+0000",
    "-0500",
    "A-1",
    "CT",
    "ct",
    "CT\\MR",
    " MR ",
    "CT\0",
    "",
    " ",
    "Doe^Jane",
    "山田^太郎",
    "Ивано́в",
    "1.2.3",
    "1.02.3",
    "1.2.840.10008.5.1.4.1.1.2",
    "12",
    "-3",
    12,
    -3,
    2**40,
    1.5,
    1e300,
    None,
    True,
    [],
    {},
    ["CT"],
    name("Doe^Jane^Q^Dr^MD"),
    name("", Ideographic="山田^太郎"),
    {"Alphabetic": None},
    {"Alphabetic": ["Doe"]},
    {"Ideographic": "山田"},
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
"""Whatever a JSON parser may return."""


def rows_with(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    """Rows of the attributes that are read here, each with some of ``values`` or without."""
    elements = st.lists(values, max_size=3).map(
        lambda found: {"vr": "LO", "Value": found}
    ) | st.just({"vr": "LO"})
    return st.dictionaries(st.sampled_from([tag(keyword) for keyword in _READ]), elements)


usual_rows = rows_with(st.sampled_from(_USUAL))
"""Rows of values that are seen in the wild, in any place."""

any_rows = rows_with(json_values) | st.dictionaries(
    st.sampled_from([tag(keyword) for keyword in _READ])
    | st.text(st.characters(exclude_categories=["Cs"])),
    json_values,
)
"""Rows of whatever JSON."""

uids = st.integers(1, 10**6).map(lambda number: f"1.2.826.0.{number}")
