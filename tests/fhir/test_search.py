"""Search parameters -> ``Search`` (SIA-20..24; https://hl7.org/fhir/R4/search.html)."""

from datetime import UTC

import pytest

from sidecar.common.errors import BadRequest, NotSupported
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search import IdentifierFilter, Search
from sidecar.fhir.search_parameters import (
    MAXIMUM_COUNT,
    OTHER_PATIENT,
)
from sidecar.fhir.search_parser import MAXIMUM_ALTERNATIVES, MAXIMUM_PARAMETERS, parse_search

EHR = "https://ehr.example.org/fhir"
UID = "1.2.840.113619.2.55"


def parse(*parameters: tuple[str, str], strict: bool = False) -> Search:
    return parse_search(parameters, Site(EHR, UTC), strict=strict)


def reason(*parameters: tuple[str, str], strict: bool = False) -> str:
    """Why the parameters are refused."""
    with pytest.raises(BadRequest) as refused:
        parse(*parameters, strict=strict)
    return refused.value.reason


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("performer", "use performer.name"),
        ("patient.name", "Chained search parameters here are patient.identifier, "),
        ("modality:in", "modality has no such modifier here; it has :not, :missing."),
        ("_sort:desc", "_sort has no such modifier here; it has none."),
        ("_has:Observation:subject:code", "would be of another search, without _has."),
    ],
)
def test_what_can_be_asked_instead_is_said(name: str, says: str) -> None:
    total_alone = (("_count", "0"),) if name.startswith("_has") else ()
    with pytest.raises(NotSupported) as refused:
        parse((name, "x"), *total_alone, strict=not total_alone)
    assert says in refused.value.diagnostics


def test_nothing_asked_is_everything() -> None:
    assert parse() == Search()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patient", "123"),
        ("patient", "Patient/123"),
        ("patient", EHR + "/Patient/123"),
        ("subject", "123"),
        ("subject", "Patient/123"),
        ("subject", EHR + "/Patient/123"),
        ("patient:Patient", "123"),
        ("subject:Patient", "123"),
        ("subject:Patient", "Patient/123"),
    ],
)
def test_one_patient_in_many_words(name: str, value: str) -> None:
    """SIA-20."""
    assert parse((name, value)).patients == {"123"}


@pytest.mark.parametrize(
    "value",
    [
        "Patient/1 2",
        "Patient/../124",
        "patient/123",
        "Practitioner/123",
        "Group/123",
        "Patient/Patient/123",
        "Patient/123/_history/1",
        "Patient/123#x",
        "https://other.example.org/fhir/Patient/123",
        EHR + "x/Patient/123",
        EHR + "//Patient/123",
        EHR.replace("https", "http") + "/Patient/123",
        "https://EHR.example.org/fhir/Patient/123",
        "urn:oid:1.2.3",
        "MRN|123",
        "1_2",
        "x" * 65,
        "*",
        "..",
        "Pätient",
        "\uff11\uff12\uff13",
        " 123",
        "123 ",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", ["patient", "subject"])
def test_a_reference_that_can_be_nobody_here_is_never_the_tokens(name: str, value: str) -> None:
    """SIA-22: it turns into 403, not into a search without patient."""
    assert parse((name, value)).patients == {OTHER_PATIENT}


def test_every_patient_named_counts() -> None:
    """SIA-22: repetition and commas must not hide one behind the token's own."""
    assert parse(
        ("patient", "1,2"), ("subject", "Patient/3"), ("patient:Patient", "4")
    ).patients == set("1234")
    assert parse(("patient", "1,http://x.org/Patient/1")).patients == {"1", OTHER_PATIENT}


@pytest.mark.parametrize("value", ["", ",", "123,", ",123", "Patient/", EHR + "/Patient/"])
def test_an_empty_patient_is_refused(value: str) -> None:
    assert reason(("patient", value)) == "bad_patient"


IDENTIFIERS: dict[str, tuple[set[str], set[str]]] = {
    f"urn:oid:{UID}": ({UID}, set()),
    f"urn:dicom:uid|urn:oid:{UID}": ({UID}, set()),
    f"urn:ietf:rfc:3986|urn:oid:{UID}": ({UID}, set()),
    UID: ({UID}, {UID}),
    f"|{UID}": (set(), {UID}),
    "A-1": (set(), {"A-1"}),
    "|A-1": (set(), {"A-1"}),
    "urn:example:accession|A-1": (set(), set()),
    f"urn:example:uid|{UID}": (set(), set()),
    f"URN:DICOM:UID|urn:oid:{UID}": (set(), set()),
    f"urn:oid:{UID},A-1,urn:oid:1.2": ({UID, "1.2"}, {"A-1"}),
}


@pytest.mark.parametrize("value", IDENTIFIERS)
def test_identifiers(value: str) -> None:
    """SIA-20: UIDs and accession numbers, told apart by system."""
    uids, accession_numbers = IDENTIFIERS[value]
    assert parse(("identifier", value)).identifiers == [
        IdentifierFilter(frozenset(uids), frozenset(accession_numbers))
    ]


def test_repeated_identifiers_are_all_required() -> None:
    """R4: commas are "or", repetition is "and"."""
    assert len(parse(("identifier", "urn:oid:1.2"), ("identifier", "A-1")).identifiers) == 2


@pytest.mark.parametrize(
    ("value", "meant"), [(r"A\,1", "A,1"), (r"A\|1", "A|1"), (r"A\$1", "A$1"), (r"A\\,1", "A\\")]
)
def test_escapes_in_identifiers(value: str, meant: str) -> None:
    """R4 search.html#escaping: an accession number may have a comma or a bar (VR SH)."""
    found = parse(("identifier", value)).identifiers[0].accession_numbers
    assert found == ({meant, "1"} if value == r"A\\,1" else {meant})


def test_no_system_is_no_uid() -> None:
    """R4 search.html#token: ``|code`` finds identifiers without system; a study's UID has one."""
    assert parse(("identifier", f"|urn:oid:{UID}")).identifiers[0].uids == frozenset()


def test_dates() -> None:
    """SIA-20, 21: commas are "or", repetition is "and"."""
    search = parse(
        ("started", "ge2024-01-01"), ("started", "lt2024-02-01,2025"), ("_lastUpdated", "gt2024")
    )
    assert [
        [alternative.prefix for alternative in alternatives] for alternatives in search.started
    ] == [
        ["ge"],
        ["lt", "eq"],
    ]
    assert [[one.prefix for one in alternatives] for alternatives in search.last_updated] == [
        ["gt"]
    ]


@pytest.mark.parametrize("name", ["started", "_lastUpdated"])
@pytest.mark.parametrize("value", ["yesterday", "ge", "2024-02-30", "2024,", "ge2024-01-01,x"])
def test_bad_dates_are_refused(name: str, value: str) -> None:
    assert reason((name, value)) == "bad_date"


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("0", 0),
        ("1", 1),
        ("007", 7),
        ("500", 500),
        ("501", 500),
        ("999999", 500),
        ("99999999", 500),
    ],
)
def test_counts(value: str, count: int) -> None:
    """A server may give fewer than asked."""
    assert parse(("_count", value)).result.count == count <= MAXIMUM_COUNT


@pytest.mark.parametrize(
    "value", ["-1", "+1", " 1", "1.0", "1e2", "ten", "1" * 16, "\u0661", "\uff11"], ids=ascii
)
def test_bad_counts_are_refused(value: str) -> None:
    assert reason(("_count", value)) == "bad_count"


@pytest.mark.parametrize("value", ["ImagingStudy:endpoint", "ImagingStudy:endpoint:Endpoint", "*"])
def test_include(value: str) -> None:
    assert parse(("_include", value)).result.include_endpoint is True


@pytest.mark.parametrize(
    "value",
    ["endpoint", "ImagingStudy:patient", "ImagingStudy:endpoint:Patient", "imagingstudy:endpoint"],
)
def test_other_includes_are_ignored(value: str) -> None:
    search = parse(("_include", value))
    assert (search.result.include_endpoint, search.ignored) == (False, ["_include"])
    assert reason(("_include", value), strict=True) == "bad_include"


@pytest.mark.parametrize("name", ["colour", "_contained", "Patient", "STARTED", "_has:x", ""])
def test_unknown_parameters_are_ignored_and_not_said_to_be_used(name: str) -> None:
    """R4 search.html#errors; also one with an odd value."""
    search = parse((name, "x\x00"), ("patient", "123"))
    assert search.used == [("patient", "123")]
    assert search == parse(("patient", "123"))


def test_strict_handling_refuses_unknown_parameters() -> None:
    """Prefer: handling=strict."""
    assert reason(("colour", "blue"), strict=True) == "strict"
    known = [("_format", "json"), ("_pretty", "true"), ("_total", "none"), ("patient", "123")]
    assert parse(*known, strict=True).patients == {"123"}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "patient.name",
        "patient.organization.name",
        "endpoint.address",
        "endpoint:Endpoint.name",
        "encounter.identifier",
        "subject:Patient.name",
        "patient:Patient.name",
        "patient:Group",
        "subject:",
        "subject:Practitioner",
        "patient:Patient:x",
        "patient:patient",
        "identifier:of-type",
        "modality:",
        "_lastUpdated:exact",
        "_after:x",
        "_filter",
        "_query",
        "basedon",
        "encounter",
    ],
)
def test_what_would_change_the_question_is_always_refused(name: str, strict: bool) -> None:
    """R4: unknown modifiers and chains SHALL be rejected (``tests/tables/search_forms.py``)."""
    with pytest.raises(NotSupported):
        parse((name, "1"), strict=strict)


def test_limits() -> None:
    """So that no request can ask for endless work."""
    assert len(parse(*[("started", "2024")] * MAXIMUM_PARAMETERS).started) == MAXIMUM_PARAMETERS
    assert reason(*[("x", "1")] * (MAXIMUM_PARAMETERS + 1)) == "too_many_parameters"
    assert parse(("identifier", "x" * 4_096)).identifiers
    assert reason(("identifier", "x" * 4_097)) == "bad_value"
    assert reason(*[("identifier", "x" * 3_600)] * 2) == "too_long"
    assert reason(("identifier", "\u5c71" * 1_000)) == "too_long"


@pytest.mark.parametrize(
    "pair", [("\ud800", "1"), ("identifier", "\ud800"), ("x", "\ud800")], ids=ascii
)
def test_half_a_character_is_refused_or_ignored(pair: tuple[str, str]) -> None:
    """Today ``web`` decodes strictly and lets none through; the parser itself promises
    ``BadRequest`` alone.
    """
    try:
        assert parse(pair) == Search()
    except BadRequest:
        return


@pytest.mark.parametrize(
    "value", ["a\x00", "a\n", "a\x7f", "\u2028", "\u202e1", "a\xa0"], ids=ascii
)
@pytest.mark.parametrize("name", ["identifier", "patient"])
def test_control_characters_are_refused(name: str, value: str) -> None:
    assert reason((name, value)) == "bad_value"


def test_what_was_used_is_what_was_understood() -> None:
    """For ``link.self``: in order, with the type of a reference folded into its name."""
    search = parse(
        ("subject:Patient", "1"),
        ("x", "y"),
        ("started", "ge2024"),
        ("_count", "5"),
        ("_count", "7"),
    )
    assert search.used == [
        ("subject", "1"),
        ("started", "ge2024"),
        ("_count", "5"),
        ("_count", "7"),
    ]
    assert search.result.count == 7


@pytest.mark.parametrize(
    "name",
    [
        "patient.identifier",
        "subject.identifier",
        "patient:Patient.identifier",
        "subject:identifier",
    ],
)
@pytest.mark.parametrize(
    ("value", "identifiers"),
    [
        ("MRN1", {(None, "MRN1")}),
        ("urn:oid:1.2|MRN1", {("urn:oid:1.2", "MRN1")}),
        ("|MRN1", {("", "MRN1")}),
        ("a|1,b|2", {("a", "1"), ("b", "2")}),
        (r"a|1\,2", {("a", "1,2")}),
    ],
)
def test_a_patients_identifier(
    name: str, value: str, identifiers: set[tuple[str | None, str]]
) -> None:
    """Each must turn out to be the token's patient's: kept apart, never dropped (SIA-22)."""
    assert parse((name, value)).patient_identifiers == identifiers


@pytest.mark.parametrize("value", ["", "|", "a|", "a|b|c", "a|1,"])
def test_a_patients_identifier_has_a_value(value: str) -> None:
    assert reason(("patient.identifier", value)) == "bad_patient"


@pytest.mark.parametrize("value", ["yes", "TRUE", "1"])
def test_missing_is_true_or_false(value: str) -> None:
    assert parse(("started:missing", "true")).missing == [("started", True)]
    assert reason(("started:missing", value)) == "bad_value"


def test_the_number_of_alternatives_is_bounded() -> None:
    """Each is compared with each study. A 400 that says so; in one parameter or in several."""
    most = MAXIMUM_ALTERNATIVES - 1
    assert parse(("patient", "123"), ("modality", ",".join(["A"] * most))).tokens
    for name in ("modality", "identifier", "_id", "started", "patient", "unknown"):
        assert (
            reason(("patient", "123"), (name, ",".join(["2020"] * (most + 1))))
            == "too_many_alternatives"
        )
    assert reason(*[("modality", ",".join(["A"] * 20))] * 26) == "too_many_alternatives"
