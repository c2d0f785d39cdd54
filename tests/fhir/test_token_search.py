"""Token parameters (R4 search.html#token), and which studies they find."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.search import Search
from sidecar.fhir.select import Details
from sidecar.fhir.token_search import Alternative, TokenFilter, parse_text, parse_token
from tests.fhir.answers import answer, matching, parse, study
from tests.fhir.rows import row

DCM = "http://dicom.nema.org/resources/ontology/DCM"

STUDIES = [
    study("1.2.1", ModalitiesInStudy=["CT", "SR"]),
    study("1.2.2", ModalitiesInStudy=["MR"]),
    study("1.2.3", day=None),
    study("1.2.4", ModalitiesInStudy=["mr"]),
]
SERIES = {
    "1.2.1": [
        row(SeriesInstanceUID="1.2.1.1", BodyPartExamined="CHEST"),
        row(SeriesInstanceUID="1.2.1.2"),
    ],
    "1.2.2": [row(SeriesInstanceUID="1.2.2.1", BodyPartExamined="HEAD")],
    "1.2.3": [row(SeriesInstanceUID="1.2.3.1", Modality="US", BodyPartExamined=" ")],
}
DETAILS = Details(SERIES, endpoint="123")
ALL = {"1.2.1", "1.2.2", "1.2.3", "1.2.4"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("modality", "CT", {"1.2.1"}),
        ("modality", "ct", {"1.2.1"}),
        ("modality", "MR", {"1.2.2", "1.2.4"}),
        ("modality", "CT,MR", {"1.2.1", "1.2.2", "1.2.4"}),
        ("modality", f"{DCM}|CT", {"1.2.1"}),
        ("modality", "urn:x|CT", set()),
        ("modality", "|CT", set()),
        ("modality", f"{DCM}|", ALL),
        ("modality", "", ALL),
        ("modality", "C", set()),
        ("modality", "CT|", set()),
        ("modality", "a|b|CT", set()),
        ("modality", "US", {"1.2.3"}),
        ("modality", "OT", set()),
        ("modality:not", "CT", ALL - {"1.2.1"}),
        ("modality:not", "CT,MR", {"1.2.3"}),
        ("modality:missing", "true", set()),
        ("modality:missing", "false", ALL),
        ("status", "available", ALL),
        ("status", "registered", set()),
        ("status:not", "cancelled", ALL),
        ("status", "http://hl7.org/fhir/imagingstudy-status|available", ALL),
        ("_id", "1.2.2", {"1.2.2"}),
        ("_id", "1.2.2,1.2.3", {"1.2.2", "1.2.3"}),
        ("_id", "1.2", set()),
        ("bodysite", "chest", {"1.2.1"}),
        ("bodysite", "CHEST,HEAD", {"1.2.1", "1.2.2"}),
        ("bodysite:missing", "true", {"1.2.3", "1.2.4"}),
        ("bodysite:not", "CHEST", ALL - {"1.2.1"}),
        ("series", "1.2.1.2", {"1.2.1"}),
        ("series", "urn:oid:1.2.1.2", {"1.2.1"}),
        ("series", "urn:dicom:uid|urn:oid:1.2.2.1", {"1.2.2"}),
        ("series", "|1.2.1.2", {"1.2.1"}),
        ("series", "1.2.1", set()),
        ("started:missing", "true", {"1.2.3"}),
        ("started:missing", "false", ALL - {"1.2.3"}),
        ("identifier:missing", "true", set()),
        ("identifier:missing", "false", ALL),
        ("endpoint", "Endpoint/123", ALL),
        ("endpoint", "123", ALL),
        ("endpoint", "Endpoint/124", set()),
        ("endpoint", "https://imaging.example.org/fhir/Endpoint/123", ALL),
        ("endpoint", "https://other.example.org/fhir/Endpoint/123", set()),
    ],
)
def test_which_studies_are_found(name: str, value: str, expected: set[str]) -> None:
    assert matching(STUDIES, (name, value), details=DETAILS) == expected


def test_repetition_is_and() -> None:
    assert matching(STUDIES, ("modality", "CT"), ("modality", "SR"), details=DETAILS) == {"1.2.1"}
    assert matching(STUDIES, ("modality", "CT"), ("modality", "MR"), details=DETAILS) == set()


def test_instances_are_asked_of_the_archive() -> None:
    """What QIDO-RS found for this very filter decides."""
    search = parse(("instance", "urn:oid:1.9"))
    (wanted,) = search.tokens
    assert wanted == TokenFilter("instance", (Alternative(None, "1.9"),))
    details = Details(holding={wanted: frozenset({"1.2.2"})})
    assert matching(STUDIES, ("instance", "urn:oid:1.9"), details=details) == {"1.2.2"}
    assert matching(STUDIES, ("instance", "1.9")) == set()


def test_a_contained_endpoint_has_no_id_to_be_found_by() -> None:
    assert matching(STUDIES, ("endpoint", "Endpoint/123"), details=Details(SERIES)) == set()


def test_a_study_is_found_by_the_modality_it_shows() -> None:
    """Of the row, else of its series, else OT: search and resource must agree."""
    for entry in answer(STUDIES, Search())["entry"]:
        for coding in entry["resource"]["modality"]:
            value = f"{coding['system']}|{coding['code']}"
            assert entry["resource"]["id"] in matching(
                STUDIES, ("modality", value), details=Details()
            )


@given(st.text(max_size=20), st.booleans())
def test_any_value_is_a_filter(value: str, negated: bool) -> None:
    found = parse_token("modality", value, negated=negated)
    assert found.matches([]) is negated
    assert isinstance(found.matches([(DCM, "CT"), ("", value)]), bool)


@pytest.mark.parametrize("written", ["müller", "MULLER", "Mu\u0308l", "x,mül", "m"])
def test_a_text_is_found_by_its_beginning(written: str) -> None:
    """Without case and accents (R4 search.html#string)."""
    found = parse_text("referrer.name", written)
    assert found.matches(["Änne", "Müller"])
    assert not found.matches(["Änne", "Schmüller", ""])


@given(st.lists(st.text(max_size=8), max_size=4))
def test_nothing_begins_no_text(texts: list[str]) -> None:
    for nothing in ("", " ", ",", "\u0301", "\u0301,\u0308"):
        assert not parse_text("referrer.name", nothing).matches([*texts, ""])


@given(st.text(max_size=8), st.text(max_size=8))
def test_what_is_written_is_found(system: str, code: str) -> None:
    """With R4's escapes, whatever the characters."""
    escaped = [
        "".join("\\" + character if character in ",|$\\" else character for character in text)
        for text in (system, code)
    ]
    found = parse_token("modality", "|".join(escaped))
    assert found.matches([(system, code)])
