"""Paths to a study: constraints of scopes, backend clients, rules (SIA-11, 13, 14)."""

from itertools import permutations

import pytest

from sidecar.access.facts import (
    BackendClient,
    Effect,
    Policy,
    Token,
)
from sidecar.access.permits import (
    Deny,
    GrantPath,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import parse_scopes
from sidecar.access.visibility import (
    Hidden,
    Visible,
    visibility,
)
from tests.permits import (
    backend_client,
    make_path,
    make_policy,
    make_rule,
    make_visible,
    patient_permit,
    permit_patient,
)
from tests.tables.denials import (
    BACKEND,
    BACKEND_DENIALS,
    CLIENT,
    RETRIEVE,
    RULES,
    SEARCH,
    described,
)

NOW = 1_000.0
SYSTEM = make_path(context="system")


def token(scopes: str, patient: str | None = None) -> Token:
    """A validated token."""
    return Token(parse_scopes(scopes), NOW + 60, patient, client_id="app")


@pytest.mark.parametrize(
    ("scopes", "own", "patient", "policy", "client", "reason"), BACKEND_DENIALS
)
def test_who_has_no_path(
    scopes: str,
    own: str | None,
    patient: str | None,
    policy: Policy,
    client: BackendClient | None,
    reason: Reason,
) -> None:
    """SIA-13, 14: a backend client has what it was given, by name, and nobody else has it."""
    decided = permit_patient(
        token(scopes, own),
        RETRIEVE,
        patient,
        policy=policy,
        now=NOW,
        client=client,
        understood=frozenset(),
    )
    assert decided == Deny(reason)


@pytest.mark.parametrize(
    ("scopes", "own", "patient", "policy", "client", "paths"),
    [
        ("system/*.rs", None, "p2", BACKEND, CLIENT, [SYSTEM]),
        (
            "system/*.rs",
            None,
            "p2",
            make_policy(app_launch=False, backend_services=True),
            CLIENT,
            [SYSTEM],
        ),
        ("user/*.rs", "p1", None, make_policy(user_level=True), None, [make_path(context="user")]),
        ("patient/*.rs", "p1", None, make_policy(user_level=True), None, [make_path()]),
        ("patient/*.rs system/*.rs", "p1", "p1", BACKEND, CLIENT, [make_path(), SYSTEM]),
        (
            "patient/*.rs?a=b patient/*.rs patient/ImagingStudy.rs",
            "p1",
            None,
            make_policy(),
            None,
            [make_path("a=b"), make_path()],
        ),
        ("patient/*.rs system/*.rs", "p1", "p2", BACKEND, CLIENT, [SYSTEM]),
        ("patient/*.rs", "p1", "p1", make_policy(rules=RULES), None, [make_path(rules=RULES)]),
        ("patient/*.rs?a=b patient/*.rs?c=d", "p1", None, make_policy(), None, [make_path("a=b")]),
        (
            "system/*.rs?a=b",
            None,
            "p1",
            BACKEND,
            backend_client(frozenset({"p1"}), {"StudyID": ("x",)}, rules=False),
            [make_path("a=b", {"StudyID": ("x",)}, context="system")],
        ),
        (
            "system/*.rs",
            None,
            "p1",
            make_policy(backend_services=True, rules=RULES),
            CLIENT,
            [make_path(rules=RULES, context="system")],
        ),
        (
            "system/*.rs",
            None,
            "p1",
            make_policy(backend_services=True, rules=RULES),
            backend_client(frozenset({"p1"}), rules=False),
            [SYSTEM],
        ),
    ],
)
def test_each_grant_is_a_path(
    scopes: str,
    own: str | None,
    patient: str,
    policy: Policy,
    client: BackendClient | None,
    paths: list[GrantPath],
) -> None:
    """SIA-13, 15: with its own constraint, its client's studies, and the site's rules."""
    permit = permit_patient(
        token(scopes, own),
        RETRIEVE,
        patient,
        policy=policy,
        now=NOW,
        client=client,
        understood=frozenset({"a=b"}),
    )
    assert permit == patient_permit(patient or own or "", RETRIEVE, tuple(paths))


def test_the_path_that_shows_most_is_taken_in_any_order() -> None:
    """A path that leads nowhere, or to less, neither hides nor ends what another one shows."""
    everything, less = make_path("a"), make_path(rules=RULES)
    unsatisfied, elsewhere = make_path("b"), make_path(studies={"StudyID": ("x",)})
    empty = make_path(rules=(make_rule("all", Effect.EXCLUDE),))
    study = described("CT", "SR", satisfies=("a",), StudyID="y")
    for paths in permutations((everything, less, unsatisfied, elsewhere, empty)):
        assert visibility(patient_permit("p1", SEARCH, paths), [study], NOW) == make_visible()
    for paths in permutations((less, unsatisfied, elsewhere, empty)):
        assert visibility(patient_permit("p1", SEARCH, paths), [study], NOW) == make_visible(
            frozenset({"1.CT"}), is_complete=False
        )


def test_of_paths_to_parts_the_larger_part_is_taken_and_of_equals_the_first() -> None:
    def without(*modalities: str) -> GrantPath:
        rule = make_rule("r", Effect.EXCLUDE, series={"Modality": modalities})
        return make_path(rules=(rule,))

    def seen(*paths: GrantPath) -> Visible | Hidden:
        study = described("CT", "SR", "PR")
        return visibility(patient_permit("p1", SEARCH, paths), [study], NOW)

    two = make_visible(frozenset({"1.CT", "1.PR"}), is_complete=False)
    assert seen(without("SR"), without("CT", "SR")) == two
    assert seen(without("CT", "SR"), without("SR")) == two
    assert seen(without("SR"), without("CT")) == two
