"""The owner of a single row: one identifier, or nobody (SIA-42)."""

import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.dicom.owner import owner_of
from tests.pacs.fake import row
from tests.pacs.owned_studies import OWN, STUDY


@pytest.mark.parametrize(
    ("patient", "issuer", "expected"),
    [
        ("p1", None, OWN),
        (" p1 ", " ", OWN),
        ("p1", "A", PatientIdentifier("p1", "A")),
        (7, None, PatientIdentifier("7")),
        (None, None, PatientIdentifier("")),
        ("", "A", PatientIdentifier("", "A")),
        ({"x": 1}, ["A"], PatientIdentifier("")),
        (True, None, PatientIdentifier("")),
    ],
)
def test_the_owner_of_a_row(patient: object, issuer: object, expected: PatientIdentifier) -> None:
    """Padding does not count; a row that names nobody is nobody's."""
    owner = owner_of(
        {"00100020": {"vr": "LO", "Value": [patient]}, "00100021": {"vr": "LO", "Value": [issuer]}}
    )
    assert owner == expected
    assert owner.is_of(OWN) is (expected.patient_id == "p1")


@pytest.mark.parametrize("keyword", ["00100020", "00100021"])
@pytest.mark.parametrize("values", [["p1", "p2"], ["p1", "p1"], ["", "p1"]])
def test_a_row_with_several_values_is_nobodys(keyword: str, values: list[str]) -> None:
    """Which of them is it? When in doubt, refuse."""
    row = {"00100020": {"vr": "LO", "Value": ["p1"]}, "00100021": {"vr": "LO", "Value": ["p1"]}}
    assert owner_of(row | {keyword: {"vr": "LO", "Value": values}}) == PatientIdentifier("")


@pytest.mark.parametrize(
    ("patient_id", "issuer"),
    [("p1\ufffd", None), ("p1\x85", None), ("\x1b$Bp1", None), ("p1", "A\ufffd"), ("p1", "\x1b")],
)
def test_a_text_that_may_have_lost_characters_is_nobodys(
    patient_id: str, issuer: str | None
) -> None:
    assert owner_of(row(patient_id, STUDY, issuer=issuer)) == PatientIdentifier("")


@pytest.mark.parametrize(
    ("named", "owner"), [("ISO_IR 100", "p1"), ("ISO_IR 192", "p1"), ("ISO_IR 999", "")]
)
def test_a_row_in_a_character_set_that_nobody_knows_is_nobodys(named: str, owner: str) -> None:
    assert owner_of(row("p1", STUDY, SpecificCharacterSet=named)) == PatientIdentifier(owner)
