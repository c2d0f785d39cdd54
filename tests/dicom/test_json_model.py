"""Readers of the DICOM JSON Model: one odd attribute never spoils the rest (PS3.18 Annex F)."""

import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dicom.json_model import (
    CompactRow,
    changed,
    number,
    person_name_groups,
    sequence,
    tag,
    text,
    texts,
    values,
)

KEYWORDS = (
    "StudyInstanceUID",
    "NumberOfStudyRelatedInstances",
    "PatientName",
    "RequestAttributesSequence",
)


def of(keyword: str, *found: Any, vr: str = "LO") -> dict[str, Any]:
    """A row with one attribute."""
    return {tag(keyword): {"vr": vr, "Value": list(found)}}


def test_tags() -> None:
    assert tag("PatientID") == "00100020"
    assert tag("PixelData") == "7FE00010"
    for unknown in ("patientid", "00100020", "PatientID "):
        with pytest.raises(KeyError):
            tag(unknown)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["1.2"], ["1.2"]),
        (["1.2 ", " 1.3", "1.4\0"], ["1.2", "1.3", "1.4"]),
        ([None, "1.2", None], ["1.2"]),
        (["", " ", "\0", "x"], ["x"]),
        ([1, 1.5, -2], ["1", "1.5", "-2"]),
        ([True, False], []),
        ([["x"], {"y": 1}], []),
        ([], []),
        (["a\\b"], ["a\\b"]),
        (["\tx\n"], ["\tx\n"]),
    ],
)
def test_texts(found: list[Any], expected: list[str]) -> None:
    row = of("StudyInstanceUID", *found)
    assert texts(row, "StudyInstanceUID") == expected
    assert text(row, "StudyInstanceUID") == (expected[0] if expected else None)


EMPTY: list[dict[str, Any]] = [
    {},
    {"0020000D": None},
    {"0020000D": {}},
    {"0020000D": {"vr": "UI"}},
    {"0020000D": {"vr": "UI", "Value": None}},
    {"0020000D": {"vr": "UI", "Value": "1.2"}},
    {"0020000D": {"vr": "UI", "Value": {"0": "1.2"}}},
    {"0020000D": "1.2"},
    {"0020000D": ["1.2"]},
    {"0020000D": {"value": ["1.2"]}},
    {"0020000d": {"Value": ["1.2"]}},
    {"StudyInstanceUID": {"Value": ["1.2"]}},
    {"0020000D": 1},
    {"0020000D": {"BulkDataURI": "x"}},
]


@pytest.mark.parametrize("row", EMPTY)
def test_what_is_not_there_or_of_another_shape_is_empty(row: dict[str, Any]) -> None:
    assert values(row, "StudyInstanceUID") == []
    assert texts(row, "StudyInstanceUID") == []
    assert sequence(row, "StudyInstanceUID") == []
    assert text(row, "StudyInstanceUID") is None
    assert number(row, "StudyInstanceUID") is None
    assert person_name_groups(row, "StudyInstanceUID") == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        ("5", 5),
        (" 5 ", 5),
        ("+5", 5),
        ("005", 5),
        (0, 0),
        (2**31 - 1, 2**31 - 1),
        (2**31, None),
        (-1, None),
        ("-1", None),
        ("", None),
        ("x", None),
        (1.5, None),
        ("1e3", None),
        (True, None),
        (None, None),
        ([5], None),
        ({}, None),
        ("9" * 5_000, None),
        (10**300, None),
        ("5 6", None),
        ("5\\6", None),
        ("NaN", None),
    ],
)
def test_numbers(value: Any, expected: int | None) -> None:
    """IS comes as text (older archives) or as number."""
    assert (
        number(of("NumberOfStudyRelatedInstances", value), "NumberOfStudyRelatedInstances")
        == expected
    )


def test_a_whole_number_with_a_point_is_one() -> None:
    """JSON has one kind of number (RFC 8259 section 6): 5 and 5.0 are the same."""
    assert number(of("NumberOfStudyRelatedInstances", 5.0), "NumberOfStudyRelatedInstances") == 5


@pytest.mark.parametrize("value", ["1_0", "１０", "\u0661"])
def test_a_number_has_ascii_digits_only(value: str) -> None:
    assert (
        number(of("NumberOfStudyRelatedInstances", value), "NumberOfStudyRelatedInstances") is None
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Alphabetic": "Doe^Jane"}, "Doe^Jane"),
        ({"Alphabetic": " Doe^Jane "}, "Doe^Jane"),
        ("Doe^Jane", "Doe^Jane"),
        ({"Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}, "山田^太郎"),
        ({"Phonetic": "やまだ"}, "やまだ"),
        ({"Alphabetic": "", "Ideographic": "山田"}, "山田"),
        ({"Alphabetic": None, "Phonetic": "x"}, "x"),
        ({}, None),
        ({"Alphabetic": 1}, None),
        ({"Alphabetic": ["x"]}, None),
        (1, None),
        ([], None),
        ({"alphabetic": "x"}, None),
    ],
)
def test_person_names(value: Any, expected: str | None) -> None:
    for row in (of("PatientName", value, vr="PN"), of("PatientName", None, {}, value, vr="PN")):
        assert next(iter(person_name_groups(row, "PatientName").values()), None) == expected


def test_sequences_have_objects() -> None:
    row = of("RequestAttributesSequence", {"a": 1}, "x", None, [], {"b": 2}, vr="SQ")
    assert sequence(row, "RequestAttributesSequence") == [{"a": 1}, {"b": 2}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["vr", "Value", "Alphabetic", "Phonetic", "x", *map(tag, KEYWORDS)]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
ROWS = st.dictionaries(
    st.sampled_from([*map(tag, KEYWORDS), "x"]),
    JSON | st.builds(lambda found: {"vr": "LO", "Value": found}, st.lists(JSON, max_size=4)),
)


@given(ROWS, st.sampled_from(KEYWORDS))
def test_any_json_is_read_or_empty(row: dict[str, Any], keyword: str) -> None:
    """Nothing raises, and nothing comes out but what the types say."""
    assert None not in values(row, keyword)
    assert all(found and found == found.strip(" \0") for found in texts(row, keyword))
    first = text(row, keyword)
    assert first is None or first == texts(row, keyword)[0]
    counted = number(row, keyword)
    assert counted is None or 0 <= counted < 2**31
    assert all(isinstance(item, dict) for item in sequence(row, keyword))
    assert all(name.strip() == name != "" for name in person_name_groups(row, keyword).values())


@given(st.text(max_size=64).filter(lambda found: found.strip(" \0") == found != ""))
def test_a_text_survives_the_way_through_json(value: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in value):
        return
    assert text(json.loads(json.dumps(of("StudyInstanceUID", value))), "StudyInstanceUID") == value


ELEMENTS = st.dictionaries(
    st.sampled_from(["vr", "Value", "x"]),
    st.none()
    | st.text(max_size=9)
    | st.integers(-(2**53), 2**53)
    | st.lists(st.text(max_size=3), max_size=3),
    max_size=3,
)
ANY_ROW = st.dictionaries(
    st.sampled_from(["00100020", "0020000D", "PatientID", "", "\0", '\x01"00100020"\x01']),
    ELEMENTS,
    max_size=5,
)


@given(ANY_ROW, ANY_ROW, ANY_ROW, st.sets(st.sampled_from(["00100020", "0020000D", "7FE00010"])))
def test_a_compact_row_is_the_row(
    row: dict[str, Any], other: dict[str, Any], added: dict[str, Any], names: set[str]
) -> None:
    compact = CompactRow(row)
    assert compact == row
    assert dict(compact) == row
    assert list(compact) == list(row)
    assert len(compact) == len(row)
    assert compact.get("7FE00010") is None
    assert (CompactRow(other) == compact) is (other == row)
    left = changed(compact, names, added)
    assert isinstance(left, CompactRow)
    assert (
        left
        == changed(row, names, added)
        == {name: row[name] for name in row if name not in names} | added
    )
    assert compact == row


@given(ANY_ROW, ANY_ROW)
def test_rows_are_written_alike_if_they_are_alike(
    row: dict[str, Any], other: dict[str, Any]
) -> None:
    """Whatever the order of their attributes, and without those that do not count."""
    ignored = frozenset({"0020000D"})

    def written(row: dict[str, Any]) -> bytes:
        return CompactRow(row).sorted_text(without=ignored)

    assert written(row) == written(dict(reversed(row.items())))
    left, others = ({name: row[name] for name in row.keys() - ignored} for row in (row, other))
    assert (written(row) == written(other)) is (left == others)


def test_compact_rows_are_little_work_for_the_garbage_collector() -> None:
    """What it goes through: one object for each row, whatever is in it."""
    rows = [
        CompactRow({f"{number:08X}": {"vr": "LO", "Value": ["x"]} for number in range(30)})
        for _ in range(100)
    ]
    assert len(gc.get_referents(*rows)) > 100
    tracked = [
        one for one in gc.get_referents(*rows) if gc.is_tracked(one) and not isinstance(one, type)
    ]
    assert tracked == []
