"""Are these two the same patient (SIA-12, SIA-42), and which identifiers may be asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import (
    PatientIdentifier,
    is_fhir_id,
)

SAME: list[tuple[PatientIdentifier, PatientIdentifier]] = [
    (PatientIdentifier("4711"), PatientIdentifier("4711")),
    (PatientIdentifier("  4711 "), PatientIdentifier("4711")),
    (PatientIdentifier("4711", "A"), PatientIdentifier("4711", "A")),
    (PatientIdentifier("4711", " A "), PatientIdentifier("4711", "A")),
    (PatientIdentifier("4711", "A"), PatientIdentifier("4711")),
    (PatientIdentifier("4711", "A"), PatientIdentifier("4711", "")),
    (PatientIdentifier("4711", "A"), PatientIdentifier("4711", "  ")),
    (PatientIdentifier("M\u00fcller 1"), PatientIdentifier("M\u00fcller 1")),
]

OTHER: list[tuple[PatientIdentifier, PatientIdentifier]] = [
    (PatientIdentifier("4711"), PatientIdentifier("4712")),
    (PatientIdentifier("4711"), PatientIdentifier("04711")),
    (PatientIdentifier("4711"), PatientIdentifier("47110")),
    (PatientIdentifier("4711"), PatientIdentifier("4 711")),
    (PatientIdentifier("abc"), PatientIdentifier("ABC")),
    (PatientIdentifier("4711", "A"), PatientIdentifier("4711", "B")),
    (PatientIdentifier("4711", "A"), PatientIdentifier("4711", "a")),
    (PatientIdentifier("4711"), PatientIdentifier("4711\u00a0")),
    (PatientIdentifier("4711"), PatientIdentifier("4711\t")),
    (PatientIdentifier("4711"), PatientIdentifier("4711\x00")),
    (PatientIdentifier("4711"), PatientIdentifier("\uff14\uff17\uff11\uff11")),
    (PatientIdentifier("M\u00fcller"), PatientIdentifier("Mu\u0308ller")),
    # A wildcard is a letter here: nobody's, unless the archive has it to the letter.
    (PatientIdentifier("*"), PatientIdentifier("4711")),
    (PatientIdentifier("47?1"), PatientIdentifier("4711")),
    (PatientIdentifier("4711\\4712"), PatientIdentifier("4711")),
    # An empty PatientID is nobody's, not even that of another study without one.
    (PatientIdentifier(""), PatientIdentifier("")),
    (PatientIdentifier("  "), PatientIdentifier("")),
    (PatientIdentifier("", "A"), PatientIdentifier("", "A")),
    (PatientIdentifier(""), PatientIdentifier("4711")),
]

TEXTS = st.text(alphabet="ab A*?\\ 1", max_size=4)
IDENTIFIERS = st.builds(PatientIdentifier, TEXTS, st.none() | TEXTS)


@pytest.mark.parametrize(("one", "other"), SAME, ids=repr)
def test_the_same_patient(one: PatientIdentifier, other: PatientIdentifier) -> None:
    """SIA-12: outer spaces do not count (PS3.5 6.2); an issuer that the site does not know does not
    part them.
    """
    assert one.is_of(other)
    assert one.may_be(other)
    assert other.may_be(one)


@pytest.mark.parametrize(("one", "other"), OTHER, ids=repr)
def test_not_the_same_patient(one: PatientIdentifier, other: PatientIdentifier) -> None:
    """SIA-12: nothing is normalized, matched or guessed."""
    for left, right in ((one, other), (other, one)):
        assert not left.is_of(right)
        assert not left.may_be(right)


def test_a_row_without_the_issuer_that_the_site_knows_is_somebody_else() -> None:
    """A third patient of the number, of whom the archive knows no issuer; an image alone may leave
    it out.
    """
    row, known = PatientIdentifier("4711"), PatientIdentifier("4711", "A")
    assert not row.is_of(known)
    assert row.may_be(known)


@given(IDENTIFIERS, IDENTIFIERS)
def test_the_compare_rests_on_the_id(found: PatientIdentifier, known: PatientIdentifier) -> None:
    """SIA-12: a row must have at least what an image must not contradict."""
    if found.is_of(known):
        assert found.patient_id == known.patient_id != ""
        assert known.issuer in (None, found.issuer)
        assert found.may_be(known)
    if found.may_be(known):
        assert found.patient_id == known.patient_id != ""
        assert None in (found.issuer, known.issuer) or found.issuer == known.issuer


def test_padding_does_not_make_two_identifiers() -> None:
    """Equal ones are equal in a set, so that they are asked for once."""
    assert {
        PatientIdentifier(" 1 ", ""),
        PatientIdentifier("1", None),
        PatientIdentifier("1", " "),
    } == {PatientIdentifier("1")}


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "4711",
        "a-b_c.d",
        "A B",
        "M\u00fcller^X",
        "a,b",
        "%2a",
        "x" * 64,
        "[1]",
        "=1",
        "*",
        "?",
        "4711*",
        "*4711",
        "47?1",
    ],
)
def test_searchable(text: str) -> None:
    """What a query by PatientID matches to the letter."""
    assert PatientIdentifier(text).is_searchable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1\\2",
        "\\",
        "x" * 65,
        "a\nb",
        "a\x00b",
        "\x1b",
        "1\t",
        "\ud800",
        "1\u00a0",
        "1\u200b",
        "1\u2028",
    ],
    ids=ascii,
)
def test_not_searchable(text: str) -> None:
    """What is not LO is nobody's PatientID."""
    assert not PatientIdentifier(text).is_searchable()


@given(st.text())
def test_a_searchable_id_is_one_value(text: str) -> None:
    """Whatever the EHR sends."""
    identifier = PatientIdentifier(text)
    if identifier.is_searchable():
        assert not set(identifier.patient_id) & set("\\\x00\n\r")
        assert 0 < len(identifier.patient_id) <= 64


@pytest.mark.parametrize("text", ["1", "a", "X", "A-1.b", "x" * 64, "-", "1..2", ".a"])
def test_a_fhir_id(text: str) -> None:
    """FHIR R4 ``id``."""
    assert is_fhir_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "x" * 65,
        "a/b",
        "a b",
        " a",
        "a\n",
        "a_b",
        "a*",
        "a?b",
        "a,b",
        "a\\b",
        "a%2Fb",
        "Patient/1",
        "\uff11",
        "\u0661",
        "\u00e4",
        "a;b",
        "a#b",
        "a\x00",
    ],
    ids=ascii,
)
def test_not_a_fhir_id(text: str) -> None:
    """Nothing that is more than one path segment, a wildcard or a list can be a patient (it becomes
    part of a URL).
    """
    assert not is_fhir_id(text)


def test_only_spaces_are_taken_off() -> None:
    """A letter at an end is part of the value, in the number and in the issuer."""
    found = PatientIdentifier(" X1X ", " XaX ")
    assert (found.patient_id, found.issuer) == ("X1X", "XaX")
