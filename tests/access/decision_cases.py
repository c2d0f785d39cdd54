"""Tokens and facts that the decision denies, each with its reason."""

from sidecar.access.facts import Part, PatientIdentifier, StudyFacts
from sidecar.access.permits import Interaction
from sidecar.access.reasons import Reason
from tests.permits import (
    make_policy,
    patient_permit,
    study_facts,
)

NOW = 1_000.0
ON, OFF = make_policy(), make_policy(app_launch=False)
SEARCH, READ, RETRIEVE = Interaction.SEARCH, Interaction.READ, Interaction.RETRIEVE
PART = Part("1.2.3", "1.2.3.4", "1.2.3.4.5")
MINE, ALSO_MINE, HERS = (
    PatientIdentifier("p1"),
    PatientIdentifier("4711", "MRN"),
    PatientIdentifier("p2"),
)
PERMIT = patient_permit("p1", RETRIEVE)
STUDY_DENIALS: list[tuple[list[PatientIdentifier], StudyFacts, Reason]] = [
    ([MINE], study_facts(frozenset(), part_found=True), Reason.ABSENT),
    ([], study_facts(frozenset(), part_found=False), Reason.ABSENT),
    ([MINE], study_facts(frozenset({HERS}), part_found=True), Reason.FOREIGN),
    ([MINE], study_facts(frozenset({HERS}), part_found=False), Reason.FOREIGN),
    ([MINE], study_facts(frozenset({MINE, HERS}), part_found=True), Reason.SHARED_UID),
    ([MINE], study_facts(frozenset({MINE, HERS}), part_found=False), Reason.SHARED_UID),
    (
        [MINE, ALSO_MINE],
        study_facts(frozenset({MINE, ALSO_MINE, HERS}), part_found=True),
        Reason.SHARED_UID,
    ),
    (
        [MINE],
        study_facts(frozenset({MINE, PatientIdentifier("")}), part_found=True),
        Reason.SHARED_UID,
    ),
    (
        [ALSO_MINE],
        study_facts(frozenset({ALSO_MINE, PatientIdentifier("4711", "X")}), True),
        Reason.SHARED_UID,
    ),
    (
        [MINE, ALSO_MINE],
        study_facts(frozenset({HERS, PatientIdentifier("")}), part_found=True),
        Reason.FOREIGN,
    ),
    ([], study_facts(frozenset({MINE}), part_found=True), Reason.FOREIGN),
    (
        [ALSO_MINE],
        study_facts(frozenset({PatientIdentifier("4711", "X")}), part_found=True),
        Reason.FOREIGN,
    ),
    (
        [PatientIdentifier("")],
        study_facts(frozenset({PatientIdentifier("")}), part_found=True),
        Reason.FOREIGN,
    ),
    ([MINE], study_facts(frozenset({MINE}), part_found=False), Reason.NOT_IN_STUDY),
]
