"""From a request's token to a patient's permit: each refusal has its reason and is counted
(SIA-10..14, 16).
"""

import contextlib
from collections.abc import Sequence
from unittest.mock import AsyncMock, Mock

import pytest

from sidecar.access.facts import Policy, Token
from sidecar.access.permits import (
    Interaction,
    PatientPermit,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import parse_scopes
from sidecar.audit.record import AccessRecord
from sidecar.authorization.decision_log import Denied
from sidecar.common.errors import BadRequest
from sidecar.tokens.rejection import TokenRejected
from tests.authorization.authorizer_world import GOOD, NOW, RECORD, World, token
from tests.fakes.site import NO_AUDIT
from tests.permits import (
    backend_client,
    make_path,
    make_policy,
    patient_permit,
)


async def test_the_token_is_asked_for_once_and_given_back() -> None:
    world = World()
    assert await world.token(GOOD) == token()
    assert world.tokens.asked == ["a-good-token"]
    assert world.decisions() == {}


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ([], Reason.MISSING_TOKEN),
        ([""], Reason.MALFORMED_TOKEN),
        (["Bearer"], Reason.MALFORMED_TOKEN),
        (["Bearer "], Reason.MALFORMED_TOKEN),
        (["Basic dXNlcjpwdw=="], Reason.MALFORMED_TOKEN),
        (["Bearer a,b"], Reason.MALFORMED_TOKEN),
        (["Bearer a b"], Reason.MALFORMED_TOKEN),
        ([GOOD, GOOD], Reason.MALFORMED_TOKEN),
        ([GOOD, ""], Reason.MALFORMED_TOKEN),
        (["a-good-token"], Reason.MALFORMED_TOKEN),
        (["Bearer " + "x" * 100_000], Reason.MALFORMED_TOKEN),
        (["Bearer ä"], Reason.MALFORMED_TOKEN),
    ],
)
async def test_without_one_bearer_token_nobody_is_asked(
    authorization: Sequence[str], reason: Reason
) -> None:
    world = World()
    assert await world.refused(world.token(*authorization)) is reason
    assert world.tokens.asked == []


async def test_a_token_that_is_not_active() -> None:
    world = World()
    world.tokens.known = None
    assert await world.refused(world.token(GOOD)) is Reason.INACTIVE_TOKEN


async def test_a_permit_is_counted() -> None:
    world = World()
    for interaction in Interaction:
        assert await world.authorizer.permit(RECORD, token(), interaction) == patient_permit(
            "p1", interaction
        )
        assert await world.authorizer.permit(RECORD, token(), interaction, "p1") == patient_permit(
            "p1", interaction
        )
    assert world.decisions() == {("permit", interaction.value): 2 for interaction in Interaction}


@pytest.mark.parametrize(
    ("facts", "patient", "policy", "reason"),
    [
        (token(patient=None), None, make_policy(), Reason.NO_PATIENT_CONTEXT),
        (token(), "p2", make_policy(), Reason.OTHER_PATIENT),
        (token(), "", make_policy(), Reason.OTHER_PATIENT),
        (token(), "P1", make_policy(), Reason.OTHER_PATIENT),
        (token("patient/Observation.rs"), "p1", make_policy(), Reason.INSUFFICIENT_SCOPE),
        (token("user/*.rs system/*.rs"), "p1", make_policy(), Reason.INSUFFICIENT_SCOPE),
        (
            token("patient/ImagingStudy.rs?modality:not=CT"),
            "p1",
            make_policy(),
            Reason.CONSTRAINED_SCOPE,
        ),
        (token(), "p1", make_policy(app_launch=False), Reason.APP_LAUNCH_OFF),
        (token(expires_at=NOW), "p1", make_policy(), Reason.EXPIRED_TOKEN),
    ],
)
async def test_a_token_that_does_not_cover_it(
    facts: Token, patient: str | None, policy: Policy, reason: Reason
) -> None:
    """Before the patient or the archive is asked about."""
    world = World(policy)

    async def permit() -> PatientPermit:
        return await world.authorizer.permit(RECORD, facts, Interaction.RETRIEVE, patient)

    assert await world.refused(permit()) is reason
    assert world.patients.asked == []
    assert world.facts.asked == []


async def test_an_expiry_passes_between_two_requests() -> None:
    """The clock is looked at for each decision."""
    world = World()
    facts = token(expires_at=NOW + 10)
    world.clock.now += 9.9
    assert await world.authorizer.permit(RECORD, facts, Interaction.READ)
    world.clock.now += 0.1
    with pytest.raises(Denied):
        await world.authorizer.permit(RECORD, facts, Interaction.READ)


@pytest.mark.parametrize(
    ("user_level", "patient", "permitted"),
    [(True, "p1", True), (False, "p1", False), (True, None, False), (True, "p2", False)],
)
async def test_user_scopes_by_explicit_switch_alone(
    user_level: bool, patient: str | None, permitted: bool
) -> None:
    """SIA-14: and then for the patient in context alone."""
    world = World(make_policy(user_level=user_level))
    facts = token("user/ImagingStudy.rs", patient=patient)
    if permitted:
        assert await world.authorizer.permit(
            RECORD, facts, Interaction.SEARCH, "p1"
        ) == patient_permit("p1", Interaction.SEARCH, (make_path(context="user"),))
    else:
        with pytest.raises(Denied):
            await world.authorizer.permit(RECORD, facts, Interaction.SEARCH, "p1")


async def test_a_search_is_refused_for_what_no_parameter_can_mend() -> None:
    """A backend client may still name its patient; who has no scope may not search at all."""
    world = World(make_policy(backend_services=True))
    world.authorizer._clients = Mock(
        client=AsyncMock(return_value=backend_client(frozenset({"p1"})))
    )
    await world.authorizer.may_search(RECORD, token(), None)
    await world.authorizer.may_search(RECORD, token("system/*.rs", None), None)
    for facts, patient, reason in (
        (token("openid"), None, Reason.INSUFFICIENT_SCOPE),
        (token(), "p2", Reason.OTHER_PATIENT),
        (token("system/*.rs", None), "p2", Reason.NOT_THE_CLIENTS_PATIENT),
    ):
        assert await world.refused(world.authorizer.may_search(RECORD, facts, patient)) is reason


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (token("patient/*.r"), None),
        (token("patient/*.s"), Reason.INSUFFICIENT_SCOPE),
        (token(expires_at=NOW), Reason.EXPIRED_TOKEN),
    ],
)
async def test_what_an_app_reads_is_decided_by_its_tokens_patient(
    facts: Token, reason: Reason | None
) -> None:
    world, made = World(), AccessRecord("r3")
    reading = world.authorizer.permit_read(made, facts)
    if reason is None:
        assert await reading == patient_permit("p1", Interaction.READ)
    else:
        assert await world.refused(reading) is reason
    assert made.patient == "p1"


@pytest.mark.parametrize("scope", ["system/*.r", "patient/*.r system/*.r"])
@pytest.mark.parametrize(
    ("owners", "seconds", "reason", "recorded"),
    [
        (["p1"], 0, None, "p1"),
        (["p2"], 0, Reason.FOREIGN, "p2"),
        (["p1", "p2"], 0, Reason.FOREIGN, None),
        ([], 0, Reason.ABSENT, None),
        (["p1"], 60, Reason.EXPIRED_TOKEN, "p1"),
        ([], 60, Reason.EXPIRED_TOKEN, None),
    ],
)
async def test_what_is_read_without_a_patient_is_decided_by_its_only_owner(
    scope: str, owners: list[str], seconds: float, reason: Reason | None, recorded: str | None
) -> None:
    """SIA-45: who else the token is for is no other refusal; that it expired meanwhile is."""
    world = World(make_policy(backend_services=True))
    world.authorizer._clients = Mock(
        client=AsyncMock(return_value=backend_client(frozenset({"p1"})))
    )
    facts, made = token(scope, None), AccessRecord("r3")
    assert await world.authorizer.permit_read(made, facts) is None
    world.clock.now += seconds
    decided = world.authorizer.permit_owner(made, facts, owners)
    if reason is None:
        permitted = await decided
        assert (permitted.patient, permitted.interaction) == ("p1", Interaction.READ)
    else:
        assert await world.refused(decided) is reason
    assert made.patient == recorded


async def test_a_rejected_token_is_refused_with_its_reason() -> None:
    world = World()
    world.tokens.known = TokenRejected(Reason.EXPIRED_TOKEN, "exp")
    assert await world.refused(world.token(GOOD)) is Reason.EXPIRED_TOKEN


async def test_the_record_names_the_token_and_whom_it_is_for() -> None:
    world = World()
    made = AccessRecord("r3")
    validated = await world.authorizer.token(made, [GOOD])
    assert made.token is validated
    assert made.bearer == "a-good-token"
    assert made.token_hash == NO_AUDIT.token_hash("a-good-token")


@pytest.mark.parametrize(
    ("of_token", "asked_for", "recorded"),
    [
        ("p1", None, "p1"),
        ("p1", "p1", "p1"),
        ("p1", "p2", "p2"),
        (None, "p2", "p2"),
        (None, None, None),
        ("p1", "", None),
    ],
)
async def test_the_record_names_the_patient_that_is_asked_for(
    of_token: str | None, asked_for: str | None, recorded: str | None
) -> None:
    """Also where it is refused; a search that may go on has not asked for anybody yet."""
    world = World()
    facts, without_scope = token(patient=of_token), token("openid", patient=of_token)
    made = AccessRecord("r3", patient="nobody yet")
    with contextlib.suppress(Denied):
        await world.authorizer.permit(made, facts, Interaction.READ, asked_for)
    assert made.patient == recorded
    made = AccessRecord("r3", patient="nobody yet")
    with pytest.raises(Denied):
        await world.authorizer.may_search(made, without_scope, asked_for)
    assert made.patient == recorded
    made = AccessRecord("r3", patient="nobody yet")
    try:
        await world.authorizer.may_search(made, facts, asked_for)
    except Denied:
        assert made.patient == recorded
    else:
        assert made.patient == "nobody yet"


BACKEND = "system/*.rs"


@pytest.mark.parametrize(
    ("scope", "compartment", "named", "found"),
    [
        ("patient/*.rs", None, set(), "p1"),
        ("patient/*.rs", None, {"p1"}, "p1"),
        ("patient/*.rs", "p1", {"p1"}, "p1"),
        ("patient/*.rs", None, {"p2"}, Reason.OTHER_PATIENT),
        ("patient/*.rs", "p1", {"p1", "p2"}, Reason.OTHER_PATIENT),
        (BACKEND, None, set(), Reason.NO_PATIENT_NAMED),
        (BACKEND, None, {"p1"}, "p1"),
        (BACKEND, "p1", {"p1"}, "p1"),
        (BACKEND, "p1", {"p1", "p3"}, "several_patients"),
        (BACKEND, None, {"p1", "p2"}, Reason.NOT_THE_CLIENTS_PATIENT),
        (BACKEND, "p1", {"p1", "p2"}, Reason.NOT_THE_CLIENTS_PATIENT),
    ],
)
async def test_a_search_is_permitted_for_all_whom_it_names_or_for_nobody(
    scope: str, compartment: str | None, named: set[str], found: str | Reason
) -> None:
    world = World(make_policy(backend_services=True))
    client = backend_client(frozenset({"p1", "p3"}))
    world.authorizer._clients = Mock(client=AsyncMock(return_value=client))
    facts = token(scope, None if scope == BACKEND else "p1")
    made = AccessRecord("r3")
    await world.authorizer.may_search(made, facts, compartment)
    searching = world.authorizer.permit_search(made, facts, named)
    if isinstance(found, Reason):
        with pytest.raises(Denied) as denied:
            await searching
        assert denied.value.reason is found
    elif found == "several_patients":
        with pytest.raises(BadRequest):
            await searching
    else:
        assert (await searching).patient == made.patient == found
        assert world.decisions() == {("permit", "search"): 1}


async def test_what_a_search_names_counts_for_a_backend_client_too() -> None:
    """SIA-13: an app's token may have system scopes; its first decision names nobody."""
    world = World(make_policy(backend_services=True))
    client = backend_client(frozenset({"p1"}))
    world.authorizer._clients = Mock(client=AsyncMock(return_value=client))
    facts = token("patient/*.rs?modality=CT system/*.rs", "p1")
    of_token = await world.authorizer.permit_search(RECORD, facts, set())
    named = await world.authorizer.permit_search(RECORD, facts, {"p1"})
    assert named == await world.authorizer.permit(RECORD, facts, Interaction.SEARCH, "p1")
    assert named != of_token


@pytest.mark.parametrize(
    ("scope", "asks"),
    [
        ("patient/*.rs", 0),
        ("user/*.rs", 0),
        ("system/*.rs", 1),
        ("patient/*.rs system/*.rs", 1),
        ("openid", 0),
    ],
)
async def test_the_clients_patients_are_looked_up_for_system_scopes_alone(
    scope: str, asks: int
) -> None:
    clients = Mock(client=AsyncMock(return_value=backend_client(frozenset({"p1"}))))
    world = World(make_policy(backend_services=True))
    world.authorizer._clients = clients
    facts = Token(tuple(parse_scopes(scope)), NOW + 60, "p1", client_id="app")
    with contextlib.suppress(Denied):
        await world.authorizer.permit(RECORD, facts, Interaction.READ, "p1")
    assert [call.args for call in clients.client.call_args_list] == [("app",)] * asks


@pytest.mark.parametrize(
    ("scope", "may"), [("patient/*.s", True), ("patient/*.r", False), ("patient/*.rs", True)]
)
async def test_a_search_needs_a_scope_to_search(scope: str, may: bool) -> None:
    world = World()
    searching = world.authorizer.may_search(RECORD, token(scope), "p1")
    if may:
        await searching
    else:
        assert await world.refused(searching) is Reason.INSUFFICIENT_SCOPE
    assert ("permit", "search") not in world.decisions()


async def test_constraints_are_understood_before_they_permit() -> None:
    world = World()
    facts = token("patient/*.r patient/*.rs?modality=CT patient/*.rs?x=y")
    permit = await world.authorizer.permit(RECORD, facts, Interaction.SEARCH)
    assert permit.paths == (make_path("modality=CT"),)
