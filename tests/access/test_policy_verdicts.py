"""The external policy's verdicts take away from what rules leave (SIA-43)."""

from dataclasses import replace

from sidecar.access.facts import (
    Caller,
    Token,
    Verdict,
)
from sidecar.access.permits import (
    PatientPermit,
)
from sidecar.access.scopes import parse_scopes
from sidecar.access.visibility import (
    HIDDEN,
    Hidden,
    Visible,
    is_hidden_anyway,
    visibility,
)
from tests.permits import (
    make_path,
    make_policy,
    make_visible,
    patient_permit,
    permit_patient,
)
from tests.tables.denials import (
    RULES,
    SEARCH,
    described,
)

NOW = 1_000.0


def test_who_asks_is_told_to_the_external_policy() -> None:
    facts = Token(
        parse_scopes("patient/*.rs openid"), NOW + 60, "p1", "app", "u1", "https://ehr.example.org"
    )
    permit = permit_patient(
        facts,
        SEARCH,
        None,
        policy=make_policy(external=True),
        now=NOW,
        client=None,
        understood=frozenset(),
    )
    assert isinstance(permit, PatientPermit)
    assert permit.caller == Caller("app", "u1", "https://ehr.example.org")
    assert permit.is_limited


def test_a_verdict_is_for_the_scopes_of_one_context() -> None:
    """SIA-15: what the policy allows to a user's scope does not come to a patient's beside it."""
    judged = replace(
        described("CT", "SR", satisfies=("modality=MR",)),
        verdicts={"patient": Verdict(True, frozenset({"1.SR"})), "user": Verdict(True)},
    )
    permit = patient_permit(
        "p1", SEARCH, (make_path(), make_path("modality=CT", context="user")), Caller("app")
    )
    assert visibility(permit, [judged], NOW) == make_visible(frozenset({"1.CT"}), is_complete=False)
    both = patient_permit(
        "p1", SEARCH, (make_path(), make_path("modality=MR", context="user")), Caller("app")
    )
    assert visibility(both, [judged], NOW) == make_visible(frozenset({"1.CT", "1.SR"}))


def test_what_is_hidden_whatever_the_external_policy_says() -> None:
    """Then it is not asked; a study on which it has said nothing yet is not among those."""
    permit = patient_permit("p1", SEARCH, (make_path(rules=RULES),), Caller("app"))
    assert is_hidden_anyway(permit, [described("SR")], NOW)
    assert is_hidden_anyway(permit, [described("CT"), described("SR")], NOW)
    assert not is_hidden_anyway(permit, [described("CT", "SR")], NOW)
    assert visibility(permit, [described("CT", "SR")], NOW) == HIDDEN


def test_the_external_policy_adds_nothing_to_what_rules_leave() -> None:
    permit = patient_permit("p1", SEARCH, (make_path(rules=RULES),), Caller("app"))

    def seen(verdict: Verdict) -> Visible | Hidden:
        study = replace(described("CT", "SR"), verdicts={"patient": verdict})
        return visibility(permit, [study], NOW)

    assert seen(Verdict(True)) == make_visible(frozenset({"1.CT"}), is_complete=False)
    assert seen(Verdict(True, frozenset({"1.SR"}))) == seen(Verdict(True))
    # A study of which nothing is left is not shown as an empty one.
    assert seen(Verdict(True, frozenset({"1.CT"}))) == HIDDEN
