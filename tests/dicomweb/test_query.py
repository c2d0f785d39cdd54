"""QIDO-RS parameters: whatever the client says, the patient is not its to name (attack class
"Query").
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_has_tag, keyword_for_tag

from sidecar.common.errors import BadRequest
from sidecar.dicomweb.query import (
    MAXIMUM_LIMIT,
    MAXIMUM_PARAMETERS,
    MAXIMUM_VALUE_LENGTH,
    Matching,
    parse_matching,
)
from tests.tables.query_names import IGNORED, OTHER_SPELLINGS, POINTS

WHO = {
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "TypeOfPatientID": "00100022",
    "IssuerOfPatientIDQualifiersSequence": "00100024",
    "OtherPatientIDs": "00101000",
    "OtherPatientNames": "00101001",
    "OtherPatientIDsSequence": "00101002",
}
STUDY_DATE, STUDY_UID, SEQUENCE = "00080020", "0020000D", "00400275"


def keys(*parameters: tuple[str, str]) -> dict[str, str]:
    """The matching keys that are left."""
    return dict(parse_matching(parameters).parameters)


@pytest.mark.parametrize("name", [*WHO, *WHO.values(), *(tag.lower() for tag in WHO.values())])
def test_who_is_left_out_in_every_spelling(name: str) -> None:
    for value in ("", "p1", "other", "*", "?", "a*", "p1\\other", "p1,other", "''", '""', " "):
        left = keys((name, value), (STUDY_DATE, "20240101"))
        assert left == {STUDY_DATE: "20240101"}, value


def test_who_may_be_repeated_and_is_left_out_each_time() -> None:
    assert (
        keys(
            ("PatientID", "own"),
            ("PatientID", "other"),
            ("00100020", "third"),
            ("OtherPatientIDs", "*"),
        )
        == {}
    )


@pytest.mark.parametrize("below", ["00100020", "PatientID", "00400033", "00100024.00400032"])
@pytest.mark.parametrize(
    "sequence", ["OtherPatientIDsSequence", "00101002", "IssuerOfPatientIDQualifiersSequence"]
)
def test_who_is_left_out_with_all_that_is_in_it(sequence: str, below: str) -> None:
    assert keys((f"{sequence}.{below}", "other")) == {}


@pytest.mark.parametrize(
    "name",
    [
        "00400275.00100020",
        "RequestAttributesSequence.PatientID",
        "ReferencedPatientSequence.00101002.00100020",
    ],
)
def test_who_is_left_out_inside_of_other_sequences(name: str) -> None:
    """A PACS that looks at the last step alone would take it for its own PatientID, beside ours."""
    assert keys((name, "other")) == {}


@pytest.mark.parametrize("name", OTHER_SPELLINGS)
def test_a_name_that_may_be_an_attribute_in_another_spelling_is_refused(name: str) -> None:
    """Two parsers may read it as different attributes."""
    with pytest.raises(BadRequest) as refused:
        parse_matching([(name, "1")])
    assert len(name) < 3 or name not in refused.value.diagnostics


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("value", ["", "1", "p1"])
def test_a_parameter_that_is_no_attribute_or_a_private_one_is_ignored(
    name: str, value: str
) -> None:
    """PS3.18 8.3; nothing of it reaches the archive."""
    found = parse_matching([(name, value), ("StudyDate", "20240101")])
    assert found == Matching(((STUDY_DATE, "20240101"),), None, 0, (name,))
    with pytest.raises(BadRequest):
        parse_matching([(name, value)], strict=True)


def test_known_attributes_pass_in_one_spelling() -> None:
    assert keys(
        ("StudyDate", "20240101-20240131"),
        ("0020000d", "1.2,1.3"),
        ("Modality", "CT\\MR"),
        ("ModalitiesInStudy", "CT"),
        ("00400275.00400009", "A*"),
        ("PatientName", "Doe*"),
    ) == {
        STUDY_DATE: "20240101-20240131",
        STUDY_UID: "1.2,1.3",
        "00080060": "CT\\MR",
        "00080061": "CT",
        "00400275.00400009": "A*",
        "00100010": "Doe*",
    }


@pytest.mark.parametrize("other", ["StudyInstanceUID", "0020000D", "0020000d"])
def test_an_attribute_may_not_be_given_twice(other: str) -> None:
    with pytest.raises(BadRequest):
        parse_matching([("StudyInstanceUID", "1.2"), (other, "1.3")])


@pytest.mark.parametrize("name", POINTS)
def test_a_malformed_date_or_time_is_refused(name: str) -> None:
    """dcm4chee ignores it, and the client would take the whole list for what it asked for (PS3.5
    6.2).
    """
    good, bad = POINTS[name]
    for value in good:
        assert list(keys((name, value)).values()) == [value]
    for value in bad:
        with pytest.raises(BadRequest) as refused:
            parse_matching([(name, value)])
        assert "a date or time" in refused.value.diagnostics


def test_an_empty_value_matches_everything_and_is_left_out() -> None:
    """PS3.4 C.2.2.2.3; a second, real value beside it counts."""
    assert keys(("StudyDate", ""), ("AccessionNumber", "")) == {}
    assert keys(("StudyDate", ""), ("StudyDate", "20240101")) == {STUDY_DATE: "20240101"}


@pytest.mark.parametrize(
    "value", ["a\x00", "a\nb", "a\rb", "\x1b[0m", "a\u2028b", "\ud800", "a\x7f", "\u202e"]
)
def test_control_characters_are_refused(value: str) -> None:
    for name in ("StudyDescription", "PatientID", "includefield", "limit"):
        with pytest.raises(BadRequest):
            parse_matching([(name, value)])


def test_bounds() -> None:
    assert len(keys(("StudyDescription", "x" * MAXIMUM_VALUE_LENGTH))) == 1
    with pytest.raises(BadRequest):
        keys(("StudyDescription", "x" * (MAXIMUM_VALUE_LENGTH + 1)))
    assert keys(*[("PatientID", "x")] * MAXIMUM_PARAMETERS) == {}
    with pytest.raises(BadRequest):
        keys(*[("PatientID", "x")] * (MAXIMUM_PARAMETERS + 1))


def test_paging() -> None:
    assert parse_matching([]) == Matching((), None, 0)
    assert parse_matching([("limit", "0"), ("offset", "7")]) == Matching((), 0, 7)
    assert parse_matching([("limit", "9999999")]).limit == MAXIMUM_LIMIT
    assert parse_matching([("offset", "9999999")]).offset == 9_999_999


@pytest.mark.parametrize("name", ["limit", "offset"])
@pytest.mark.parametrize(
    "value",
    ["-1", "+1", "01", "1.0", "1e3", "0x10", "١", "１", " 1", "1 ", "1,2", "all", "99999999"],
)
def test_paging_takes_whole_numbers_only(name: str, value: str) -> None:
    with pytest.raises(BadRequest):
        parse_matching([(name, value)])


@pytest.mark.parametrize("name", ["limit", "offset"])
def test_paging_may_not_be_given_twice(name: str) -> None:
    with pytest.raises(BadRequest):
        parse_matching([(name, "1"), (name, "1")])


def test_fuzzy_matching_is_understood_and_never_asked_for() -> None:
    """It would make the PACS match more names than were asked for."""
    assert keys(("fuzzymatching", "true"), ("fuzzymatching", "false"), ("fuzzymatching", "")) == {}
    for value in ("1", "True", "true,false"):
        with pytest.raises(BadRequest):
            parse_matching([("fuzzymatching", value)])


def test_include_fields_are_joined() -> None:
    """As an OHIF-style viewer asks, and with ``all``."""
    found = keys(
        ("includefield", "00081030,00080060"),
        ("includefield", "StudyDescription"),
        ("includefield", "0020000e"),
    )
    assert found == {"includefield": "00081030,00080060,0020000E"}
    assert keys(("includefield", "00081030"), ("includefield", "all")) == {"includefield": "all"}
    assert keys(("includefield", "PatientID"), ("includefield", "00101002.00100020")) == {
        "includefield": "00100020,00101002.00100020"
    }


@pytest.mark.parametrize(
    "value", ["", ",", "ALL", "all*", "*", "x", "00091001", "PatientID&x=1", "limit=1", "\u00e9"]
)
def test_include_fields_that_we_do_not_know_are_left_out(value: str) -> None:
    found = parse_matching([("includefield", value + ",00081030")])
    assert found.parameters == (("includefield", "00081030"),)
    assert found.ignored == (("includefield",) if value.strip(",") else ())
    assert parse_matching([("includefield", value)]).parameters == ()


def _spellings(keyword: str, tag: str) -> list[str]:
    return [
        keyword,
        tag,
        tag.lower(),
        keyword.lower(),
        keyword.upper(),
        f"{keyword} ",
        f"{tag}.{tag}",
        f"{tag}.{keyword}",
    ]


WHO_NAMES = st.sampled_from(
    [name for keyword, tag in WHO.items() for name in _spellings(keyword, tag)]
)
OTHER_NAMES = st.sampled_from(
    [
        "StudyDate",
        STUDY_DATE,
        STUDY_UID,
        "0020000d",
        "Modality",
        "includefield",
        "limit",
        "offset",
        "fuzzymatching",
        "RequestAttributesSequence.ScheduledProcedureStepID",
        "00400275.00400009",
    ]
)
TAGS = st.integers(0, 0xFFFFFFFF).map(lambda number: f"{number:08X}")
NAMES = st.one_of(WHO_NAMES, OTHER_NAMES, TAGS, st.text(max_size=12))
VALUES = st.one_of(
    st.sampled_from(["", "1", "all", "true", "00100020", "PatientID"]), st.text(max_size=20)
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_nothing_that_says_who_survives_and_what_survives_is_a_known_tag(
    pairs: list[tuple[str, str]],
) -> None:
    try:
        matching = parse_matching(pairs)
    except BadRequest:
        return
    names = [name for name, _ in matching.parameters]
    assert len(names) == len(set(names))
    for name, value in matching.parameters:
        assert value.isprintable()
        attributes = value.split(",") if name == "includefield" else [name]
        for attribute in attributes:
            if attribute == "all":
                continue
            for step in attribute.split("."):
                assert step == step.upper()
                assert dictionary_has_tag(int(step, 16))
                assert keyword_for_tag(int(step, 16))
        if name != "includefield":
            assert name.split(".")[0] not in WHO.values()
    assert all(re.fullmatch(r"[0-9A-Za-z_.-]+", name) for name in matching.ignored)
    assert matching.limit is None or 0 <= matching.limit <= MAXIMUM_LIMIT
    assert matching.offset >= 0


@given(st.lists(st.tuples(OTHER_NAMES, VALUES), max_size=6), WHO_NAMES, VALUES, st.integers(0, 6))
def test_saying_who_changes_nothing(
    pairs: list[tuple[str, str]], name: str, value: str, at: int
) -> None:
    """The same query with and without it, or refused."""
    try:
        with_who = parse_matching([*pairs[:at], (name, value), *pairs[at:]])
    except BadRequest:
        return
    assert with_who == parse_matching(pairs)
