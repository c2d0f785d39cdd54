"""What a capability URL covers, which requests name the patient, and which resources are theirs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.decision import decide_capability, decide_identifiers, decide_read, is_shown
from sidecar.access.facts import KnownAs, PatientIdentifier
from sidecar.access.permits import ALL_SERIES, Capability, Deny, Interaction, Operation, token_hash
from sidecar.access.reasons import STATUS, Reason
from sidecar.access.visibility import HIDDEN, Visible
from tests.permits import make_path, make_visible, patient_permit, search_permit
from tests.tables.capability_denials import CAPABILITY, CAPABILITY_DENIALS, NOW, OTHER, SHOWN

MINE, ALSO_MINE, HERS = (
    PatientIdentifier("p1"),
    PatientIdentifier("4711", "MRN"),
    PatientIdentifier("p2"),
)
PATIENT = frozenset({MINE, ALSO_MINE})


@pytest.mark.parametrize(
    ("capability", "study", "operation", "shown", "now", "reason"), CAPABILITY_DENIALS
)
def test_what_it_does_not_cover(
    capability: Capability,
    study: str | None,
    operation: Operation,
    shown: bytes,
    now: float,
    reason: Reason,
) -> None:
    """Another study, another operation, a year later, another token."""
    found = decide_capability(capability, study, operation, shown=shown, now=now)
    assert found == Deny(reason)
    assert STATUS[reason] == (404 if reason is Reason.ABSENT else 403)


@given(
    st.sampled_from([None, "1.2.3", "1.2.4"]),
    st.sampled_from(Operation),
    st.sampled_from([b"", SHOWN, OTHER]),
    st.floats(NOW - 100, NOW + 200),
)
def test_it_covers_this_alone(
    study: str | None, operation: Operation, shown: bytes, now: float
) -> None:
    """Its study, its time, its token."""
    found = decide_capability(CAPABILITY, study, operation, shown=shown, now=now)
    assert (found is None) == (now < NOW + 60 and study != "1.2.4" and shown == SHOWN)


@pytest.mark.parametrize(
    "named",
    [[], [{MINE}], [{MINE}, {ALSO_MINE}], [{MINE, HERS}, {ALSO_MINE}]],
)
def test_searches_are_by_all_identifiers_of_the_patient(
    named: list[set[PatientIdentifier]],
) -> None:
    permit = patient_permit("p1", Interaction.SEARCH)
    identifiers: list[KnownAs] = list(map(frozenset, named))
    assert decide_identifiers(permit, PATIENT, identifiers) == search_permit("p1", PATIENT)


@pytest.mark.parametrize("named", [[set()], [{HERS}], [{MINE}, {HERS}], [{HERS}, {MINE}]])
def test_a_request_that_names_another_patient_is_refused(
    named: list[set[PatientIdentifier]],
) -> None:
    """Each identifier in it counts, also one that the archive does not know."""
    permit = patient_permit("p1", Interaction.SEARCH)
    identifiers: list[KnownAs] = list(map(frozenset, named))
    assert decide_identifiers(permit, PATIENT, identifiers) == Deny(Reason.OTHER_PATIENT)


@pytest.mark.parametrize(
    ("named", "refused"),
    [("own", None), ("both", None), ("shared", Reason.SHARED_UID), ("other", Reason.ABSENT)],
)
def test_a_resource_is_read_when_it_is_of_their_own(named: str, refused: Reason | None) -> None:
    decided = decide_read(named, {"own", "both"}, {"shared", "both"})
    assert decided == (None if refused is None else Deny(refused))


@pytest.mark.parametrize("series", [None, "1.2"])
def test_nothing_of_a_hidden_study_is_shown(series: str | None) -> None:
    assert not is_shown(HIDDEN, series)


@pytest.mark.parametrize(
    ("seen", "series", "shown"),
    [
        (make_visible(ALL_SERIES), None, True),
        (make_visible(ALL_SERIES), "1.2", True),
        (make_visible(frozenset({"1.2"})), None, True),
        (make_visible(frozenset({"1.2"})), "1.2", True),
        (make_visible(frozenset({"1.2"})), "1.3", False),
    ],
)
def test_a_row_is_shown_with_its_series(seen: Visible, series: str | None, shown: bool) -> None:
    assert is_shown(seen, series) is shown


def test_the_constraints_of_a_permit_are_those_of_its_paths() -> None:
    paths = (make_path(), make_path("modality=CT"), make_path("modality=MR"))
    permit = patient_permit("p1", Interaction.READ, paths)
    assert permit.constraints == {"modality=CT", "modality=MR"}


def test_a_token_is_known_by_its_sha_256() -> None:
    assert token_hash("abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")
    assert len(token_hash("abc")) == 32
