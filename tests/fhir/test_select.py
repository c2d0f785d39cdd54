"""Which studies pass a search, and in which order (SIA-20, 21)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.search import Search
from tests.fhir.answers import NOW, answer, found, matching, parse, study, uids_of
from tests.fhir.rows import Row


def test_newest_first_and_unknown_last() -> None:
    rows = [
        study("1.2.1", None),
        study("1.2.2", "20230101"),
        study("1.2.3", "20240101", "0800"),
        study("1.2.4", "20240101", "0900"),
        study("1.2.5", "20240101", None),
        study("1.2.10", "20240101", "0800"),
    ]
    assert uids_of(found(rows, Search())) == ["1.2.4", "1.2.10", "1.2.3", "1.2.5", "1.2.2", "1.2.1"]


IDENTIFIED = [
    study("1.2.1", AccessionNumber="A"),
    study("1.2.2", AccessionNumber="B"),
    study("1.2.3"),
    study("1.2.4", AccessionNumber="1.2.3"),
    study("1.2.5", AccessionNumber=""),
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["urn:oid:1.2.1"], {"1.2.1"}),
        (["urn:dicom:uid|urn:oid:1.2.1,B"], {"1.2.1", "1.2.2"}),
        (["A"], {"1.2.1"}),
        (["a"], set()),
        (["A", "urn:oid:1.2.1"], {"1.2.1"}),
        (["A", "B"], set()),
        (["1.2.3"], {"1.2.3", "1.2.4"}),
        (["|1.2.3"], {"1.2.4"}),
        (["urn:oid:1.2.3"], {"1.2.3"}),
        (["urn:oid:1.2"], set()),
        (["urn:oid:1.2.*"], set()),
        (["urn:example:x|A"], set()),
        (["|"], set()),
        (["urn:oid:"], set()),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_identifiers(values: list[str], expected: set[str]) -> None:
    """SIA-20; R4: commas are "or", repetition is "and"."""
    assert matching(IDENTIFIED, *(("identifier", value) for value in values)) == expected


def test_identifiers_of_a_system() -> None:
    """R4 search.html#token: ``[system]|``; every study has a urn:dicom:uid."""
    assert len(matching(IDENTIFIED, ("identifier", "urn:dicom:uid|"))) == len(IDENTIFIED)
    assert matching(IDENTIFIED, ("identifier", "urn:ietf:rfc:3986|")) == set()
    assert matching(IDENTIFIED, ("identifier", "urn:example:x|")) == set()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2024-02-29"], {"1.2.1", "1.2.2"}),
        (["ge2024-02-29", "lt2024-03-01"], {"1.2.1", "1.2.2"}),
        (["2024-02-29T09:15"], {"1.2.1"}),
        (["2024,2023"], {"1.2.1", "1.2.2", "1.2.3"}),
        (["ne2024"], {"1.2.3"}),
        (["lt2024"], {"1.2.3"}),
        (["2024", "2023"], set()),
        (["gt0001"], {"1.2.1", "1.2.2", "1.2.3"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_started(values: list[str], expected: set[str]) -> None:
    """SIA-21: a study that does not say when it began passes no date, not even ``ne``."""
    rows = [
        study("1.2.1"),
        study("1.2.2", clock=None),
        study("1.2.3", "20230101"),
        study("1.2.4", None),
    ]
    assert matching(rows, *(("started", value) for value in values)) == expected


def test_last_updated() -> None:
    """SIA-20: what the catalog first saw like this then."""
    clock = [NOW.timestamp()]
    catalog = Catalog(clock=lambda: clock[0])
    found([study("1.2.1")], Search(), catalog=catalog)
    clock[0] += 60
    rows = [study("1.2.1"), study("1.2.2")]
    for value, expected in (
        ("gt2024-03-01T12:00:30Z", ["1.2.2"]),
        ("lt2024-03-01T12:00:30Z", ["1.2.1"]),
        ("2024-03-01T12:00", ["1.2.1"]),
        ("gt2024-03-01T13:00:00Z", []),
    ):
        assert uids_of(found(rows, parse(("_lastUpdated", value)), catalog=catalog)) == expected


@pytest.mark.parametrize("prefix", ["", "eq", "ge", "le"])
def test_a_study_is_found_by_the_last_updated_it_shows(prefix: str) -> None:
    """It is shown in milliseconds; the clock has more digits."""
    (shown,) = (
        one["resource"]["meta"]["lastUpdated"] for one in answer([study("1.2")], Search())["entry"]
    )
    assert matching([study("1.2")], ("_lastUpdated", prefix + shown)) == {"1.2"}


def escaped(value: str) -> str:
    """R4 search.html#escaping."""
    return "".join("\\" + one if one in ",|$\\" else one for one in value)


def finds_itself(found_row: Row) -> bool:
    """Whether each identifier that the resource shows finds it, with its system and without."""
    (entry,) = answer([found_row], Search())["entry"]
    forms = [
        ("urn:dicom:uid|" if "system" in identifier else "|", escaped(identifier["value"]))
        for identifier in entry["resource"]["identifier"]
    ]
    return all(
        matching([found_row], ("identifier", text))
        for form in forms
        for text in ("".join(form), form[1])
    )


@given(st.text("A1-,|$\\ /äΩ山.", min_size=1, max_size=16))
def test_a_study_is_found_by_the_identifiers_it_shows(accession_number: str) -> None:
    """Also by an accession number with commas and bars in it."""
    assert finds_itself(study("1.2", AccessionNumber=accession_number))


@pytest.mark.parametrize("accession_number", ["A\x1b1", "A-1\u3000"], ids=ascii)
def test_a_study_is_found_by_a_repaired_identifier(accession_number: str) -> None:
    assert finds_itself(study("1.2", AccessionNumber=accession_number))
