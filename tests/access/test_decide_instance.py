"""Is an instance, on its way to the client, what was permitted (SIA-42, 43)."""

import pytest

from sidecar.access.decision import decide_instance
from sidecar.access.facts import InstanceHeader, Part, PatientIdentifier
from sidecar.access.permits import ALL_SERIES, Deny, SeriesSet
from sidecar.access.reasons import Reason
from tests.permits import study_permit

MINE, ALSO_MINE, HERS = (
    PatientIdentifier("p1"),
    PatientIdentifier("4711", "MRN"),
    PatientIdentifier("p2"),
)
STUDY, SERIES, INSTANCE = Part("1"), Part("1", "1.2"), Part("1", "1.2", "1.2.3")
FOREIGN, NOT_SHOWN = Deny(Reason.FOREIGN), Deny(Reason.NOT_SHOWN)


def decide(
    part: Part,
    patient: PatientIdentifier = MINE,
    study: str = "1",
    series: str = "1.2",
    instance: str = "1.2.3",
    shown: SeriesSet = ALL_SERIES,
) -> Deny | None:
    """The decision on an instance that says this of itself."""
    permit = study_permit("p1", part, shown, frozenset({MINE, ALSO_MINE}))
    return decide_instance(permit, InstanceHeader(patient, study, series, instance))


@pytest.mark.parametrize("part", [STUDY, SERIES, INSTANCE])
@pytest.mark.parametrize("patient", [MINE, ALSO_MINE, PatientIdentifier("4711")])
def test_an_instance_of_the_part_passes(part: Part, patient: PatientIdentifier) -> None:
    """By any of the patient's identifiers; images often name no issuer."""
    assert decide(part, patient) is None
    assert decide(part, patient, shown=frozenset({"1.2"})) is None


@pytest.mark.parametrize("part", [STUDY, SERIES, INSTANCE])
@pytest.mark.parametrize("patient", [HERS, PatientIdentifier(""), PatientIdentifier("4711", "X")])
def test_an_instance_of_somebody_else_does_not_pass(part: Part, patient: PatientIdentifier) -> None:
    assert decide(part, patient) == FOREIGN
    assert decide(part, patient, shown=frozenset()) == FOREIGN


def test_an_instance_of_another_part_does_not_pass() -> None:
    for part in (STUDY, SERIES, INSTANCE):
        assert decide(part, study="9") == FOREIGN
    assert decide(STUDY, series="9", instance="9") is None
    assert decide(SERIES, series="9") == FOREIGN
    assert decide(SERIES, instance="9") is None
    assert decide(INSTANCE, series="9") == FOREIGN
    assert decide(INSTANCE, instance="9") == FOREIGN


def test_an_instance_of_an_excluded_series_does_not_pass() -> None:
    """It is the patient's; its series is not among those that are shown."""
    assert decide(STUDY, shown=frozenset({"1.9"})) == NOT_SHOWN
    assert decide(STUDY, shown=frozenset()) == NOT_SHOWN
    assert decide(STUDY, HERS, shown=frozenset({"1.9"})) == FOREIGN


def test_a_permit_without_identifiers_passes_nothing() -> None:
    header = InstanceHeader(MINE, "1", "1.2", "1.2.3")
    assert decide_instance(study_permit("p1", STUDY), header) == FOREIGN
