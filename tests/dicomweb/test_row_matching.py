"""Rows of a client's own query are compared again with its keys (PS3.4 C.2.2.2)."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.dicom.json_model import tag
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import MAXIMUM_VALUE_LENGTH, parse_matching
from sidecar.dicomweb.row_matching import RowFilter

ABSENT, EMPTY = object(), None


def is_wanted(level: str, key: str, value: str, found: Any) -> bool:
    """Whether a row with ``found`` as the only value of ``key`` stays."""
    row: dict[str, Any] = {}
    if found is not ABSENT:
        row[tag(key)] = {"vr": "UN"} if found is EMPTY else {"vr": "UN", "Value": [found]}
    return RowFilter(Query(level), parse_matching([(key, value)])).is_wanted(row)


STAYS = [
    ("studies", "StudyDescription", "Chest CT", "CHEST CT "),
    ("studies", "StudyDescription", "a,b", "a,b"),
    ("studies", "StudyDescription", "a\\b", "b"),
    ("studies", "StudyDescription", "ch?st*", "Chest CT"),
    ("studies", "StudyDescription", "*", EMPTY),
    ("studies", "StudyDescription", "Schädel", "SCHA\u0308DEL"),
    ("studies", "StudyDescription", "Schädel", "\ufffd"),
    ("studies", "StudyDescription", "x", EMPTY),
    ("studies", "PatientName", "doe", {"Alphabetic": "Doe^Jane^Q"}),
    ("studies", "PatientName", "Doe^Jane^", "Doe^Jane"),
    ("studies", "PatientName", "Yamada=X", {"Alphabetic": "Yamada", "Ideographic": "X"}),
    ("studies", "PatientName", "*山田*", {"Alphabetic": "Yamada"}),
    ("studies", "PatientName", "muller", "Müller^X"),
    (
        "studies",
        "PatientName",
        "Yamada*",
        {"Alphabetic": "X", "Ideographic": "山田", "Phonetic": "Yamada^Taro"},
    ),
    ("studies", "StudyDate", "20240101", "20240101"),
    ("studies", "StudyDate", "20240101-", "20251231"),
    ("studies", "StudyDate", "-20240101", "20231231"),
    ("studies", "StudyDate", "20240101-20240102", "20240102"),
    ("studies", "StudyDate", "20240101", "2024.01.02"),
    ("studies", "StudyTime", "12", "1300"),
    ("studies", "ModalitiesInStudy", "CT,MR", "MR"),
    ("studies", "ModalitiesInStudy", "CT\\MR", "MR"),
    ("studies", "ModalitiesInStudy", "CT", EMPTY),
    ("studies", "StudyInstanceUID", "1.2,1.3", "1.3"),
    ("studies", "StudyInstanceUID", "1.2\\1.3", "1.2"),
    ("studies", "Modality", "CT", "MR"),
    ("studies", "AccessionNumber", "A1", ABSENT),
    ("studies", "InstitutionName", "x", "y"),
    ("series", "StudyDate", "20240101", EMPTY),
    ("series", "Modality", "CT", "CT"),
    ("series", "SeriesNumber", "5", "005"),
    ("series", "SeriesNumber", "5", 5),
    ("series", "SeriesNumber", "x", 5),
    ("series", "SeriesNumber", "5", "x"),
    ("series", "InstanceNumber", "1", 2),
    ("instances", "InstanceNumber", "1", "1 "),
    ("instances", "SOPClassUID", "1.2", "1.2"),
]
GOES = [
    ("studies", "StudyDescription", "Chest CT", "Chest"),
    ("studies", "StudyDescription", "a,b", "b"),
    ("studies", "StudyDescription", "a?b", "ab"),
    ("studies", "StudyDescription", "[ab]", "a"),
    ("studies", "PatientName", "doe", {"Alphabetic": "Doering^Jane"}),
    ("studies", "PatientName", "Doe^Jane", "Roe^Jane"),
    ("studies", "PatientName", "doe", EMPTY),
    ("studies", "StudyDate", "20240101", "20240102"),
    ("studies", "StudyDate", "20240101", EMPTY),
    ("studies", "StudyDate", "20240102-", "20240101"),
    ("studies", "ModalitiesInStudy", "CT,MR", "US"),
    ("studies", "ModalitiesInStudy", "C", "CT"),
    ("studies", "StudyInstanceUID", "1.2,1.3", "1.4"),
    ("studies", "StudyInstanceUID", "1.02", "1.2"),
    ("studies", "AccessionNumber", "A1", "A2"),
    ("studies", "AccessionNumber", "A1", EMPTY),
    ("series", "Modality", "CT", "MR"),
    ("series", "SeriesNumber", "5", 6),
    ("series", "PatientName", "doe", "Roe"),
    ("instances", "SOPClassUID", "1.2", "1.3"),
    ("instances", "InstanceNumber", "1", 11),
    ("instances", "Modality", "CT", "MR"),
]


@pytest.mark.parametrize(("level", "key", "value", "found"), STAYS)
def test_what_matches_or_cannot_be_compared_stays(
    level: str, key: str, value: str, found: Any
) -> None:
    assert is_wanted(level, key, value, found)


@pytest.mark.parametrize(("level", "key", "value", "found"), GOES)
def test_what_does_not_match_goes(level: str, key: str, value: str, found: Any) -> None:
    assert not is_wanted(level, key, value, found)


def test_the_archive_is_asked_for_what_is_compared() -> None:
    """And for nothing else: Orthanc reads a file of each study for what is not in its database."""
    asked = [
        ("StudyDescription", "x"),
        ("Modality", "CT"),
        ("StudyDate", "20240101"),
        ("StudyTime", "12"),
        ("StudyID", "*"),
    ]
    found = RowFilter(Query("studies"), parse_matching(asked))
    assert found.fields == (tag("StudyDescription"), tag("StudyDate"))


def test_a_time_zone_shifts_dates() -> None:
    asked = parse_matching([("StudyDate", "20240101"), ("TimezoneOffsetFromUTC", "+0900")])
    row = {tag("StudyDate"): {"vr": "DA", "Value": ["20231231"]}}
    assert RowFilter(Query("studies"), asked).is_wanted(row)


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="\\*?="),
        min_size=1,
        max_size=64,
    ).filter(str.isprintable)
)
@example(" 0")
def test_every_text_is_found_by_itself(value: str) -> None:
    assert is_wanted("studies", "StudyDescription", value, value)
    assert is_wanted("studies", "PatientName", value, {"Alphabetic": value})
    assert is_wanted("studies", "AccessionNumber", value, value) or not value.strip(" ")


def test_no_row_costs_more_than_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in comparisons, whatever a client asks and an archive answers."""
    compared = 0

    def count(pattern: str, value: str) -> bool:
        nonlocal compared
        compared += len(pattern) * len(value)
        return False

    monkeypatch.setattr("sidecar.dicomweb.row_matching.matches", count)
    keys = (
        "StudyDescription",
        "AccessionNumber",
        "StudyID",
        "PatientName",
        "ReferringPhysicianName",
    )
    asked = parse_matching([(key, "*a" * 31) for key in keys])
    row = {tag(key): {"vr": "LO", "Value": ["a" * 1_000] * 100} for key in keys}
    assert RowFilter(Query("studies"), asked).is_wanted(row)
    assert 0 < compared <= 65_536


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("StudyDescription", "a" + "\u0345\u0301" * 5_000),
        ("StudyDescription", ["a" + "\u0345\u0301" * 500] * 100),
        ("StudyDescription", "x" * 2_000),
        ("PatientName", "=" * 20_000),
        ("PatientName", ["=" * 50] * 100),
        ("PatientName", {str(one): "" for one in range(9_000)}),
    ],
    ids=[
        "a run of accents",
        "runs of accents",
        "a long text",
        "a name of many groups",
        "such names",
        "as an object",
    ],
)
def test_a_value_that_would_take_long_is_not_compared(key: str, found: Any) -> None:
    """Whoever stores images writes it: accents are sorted in quadratic time, and each group takes
    its time.
    """
    row = {tag(key): {"vr": "LO", "Value": found if isinstance(found, list) else [found]}}
    wanted = "\\".join(["b", *["c"] * 30])
    assert RowFilter(Query("studies"), parse_matching([(key, wanted)])).is_wanted(row)


def test_a_long_list_of_wildcards_is_not_compared() -> None:
    long = "\\".join(["*a*b"] * (MAXIMUM_VALUE_LENGTH // 5))
    assert is_wanted("studies", "StudyDescription", long, "x")
