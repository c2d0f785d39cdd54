"""From a request to a permit: each refusal has its reason and is counted; no fact, no permit
(SIA-10..16, 42, 45).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from sidecar.access.facts import AnswerKind, Part, PatientIdentifier, Policy, StudyFacts, Token
from sidecar.access.permits import HeaderPermit, Interaction, PatientPermit, StudyPermit
from sidecar.access.reasons import Reason
from sidecar.access.scopes import parse_scopes
from sidecar.audit.record import AccessRecord
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.decision_log import Denied
from sidecar.authorization.visible_studies import VisibleStudiesLookup
from sidecar.common.errors import Problem, Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.issuer_check import Issuers
from sidecar.pacs.ownership import Ownership
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.cache import TokenCache
from tests.common.peer import Clock
from tests.durations import durations_of_a_request
from tests.fakes.site import NO_AUDIT, NO_VIEWS
from tests.permits import (
    backend_client,
    header_permit,
    make_policy,
    make_way,
    patient_permit,
    study_facts,
    study_permit,
)

OWN, OTHER = PatientIdentifier("p1"), PatientIdentifier("p2")
NOW = 1_000_000.0
GOOD = "Bearer a-good-token"
DOWN = Unavailable("Not now.", reason="down")
PERMIT = patient_permit("p1", Interaction.RETRIEVE)
PART = Part("1.2", "1.3", "1.4")
RECORD = AccessRecord("r1")


def token(
    scope: str = "patient/ImagingStudy.rs", patient: str | None = "p1", expires_at: float = NOW + 60
) -> Token:
    """The facts of a token."""
    return Token(tuple(parse_scopes(scope)), expires_at, patient)


class Tokens(TokenCache):
    """Knows one token."""

    def __init__(self) -> None:
        self.known: Token | Exception | None = token()
        self.asked: list[str] = []

    async def validate(self, bearer: str) -> Token | None:
        """As the cache does."""
        self.asked.append(bearer)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known


class Patients:
    """Knows one patient."""

    def __init__(self) -> None:
        self.known: frozenset[PatientIdentifier] | Exception = frozenset({OWN})
        self.asked: list[str] = []

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """As the mappings do."""
        self.asked.append(patient)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Every identifier system is the PACS's."""
        return frozenset({PatientIdentifier(value)})

    async def close(self) -> None:
        """Nothing is open."""


class Facts(Ownership):
    """Knows one answer."""

    def __init__(self) -> None:
        self.known: StudyFacts | Exception = study_facts(frozenset({OWN}), part_found=True)
        self.asked: list[Part] = []

    async def facts(
        self,
        part: Part,
        known_as: frozenset[PatientIdentifier],
        *,
        max_age_seconds: float = math.inf,
    ) -> StudyFacts:
        """As the PACS says."""
        self.asked.append(part)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known


class Instances(InstancePatients):
    """Knows one answer."""

    def __init__(self) -> None:
        self.known: frozenset[PatientIdentifier] | Exception = frozenset({OWN})
        self.asked: list[HeaderPermit] = []

    async def of(self, permit: HeaderPermit) -> frozenset[PatientIdentifier]:
        """As an instance says."""
        self.asked.append(permit)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known


class Numbers(Issuers):
    """Stands for what the PACS says of numbers without issuer."""

    def __init__(self) -> None:
        self.failing: Exception | None = None

    async def check(self, known_as: Iterable[PatientIdentifier]) -> None:
        """As the PACS says."""
        if self.failing is not None:
            raise self.failing


class World:
    """A authorizer with everything that it asks."""

    def __init__(
        self, policy: Policy | None = None, views: VisibleStudiesLookup = NO_VIEWS
    ) -> None:
        self.tokens, self.patients, self.facts, self.metrics = (
            Tokens(),
            Patients(),
            Facts(),
            Metrics("test"),
        )
        self.clock, self.issuers, self.instances = Clock(NOW), Numbers(), Instances()
        self.invalidation = Invalidation()
        self.authorizer = Authorizer(
            self.tokens,
            self.patients,
            self.facts,
            self.instances,
            self.issuers,
            self.metrics,
            NO_AUDIT,
            views,
            policy=policy or make_policy(),
            invalidation=self.invalidation,
            clock=self.clock,
        )

    def decisions(self) -> dict[tuple[str, str], float]:
        """What was counted."""
        (family,) = (
            one
            for one in self.metrics.registry.collect()
            if one.name == "smart_imaging_access_decisions"
        )
        return {
            (sample.labels["decision"], sample.labels["reason"]): sample.value
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    async def token(self, *authorization: str) -> Token:
        """The token in these Authorization headers."""
        return await self.authorizer.token(RECORD, authorization)

    async def study(self, answer: AnswerKind) -> StudyPermit:
        """The permit for ``PART``, by a request that is authorized for it."""
        request = await self.authorizer.authorize(RECORD, token(), PERMIT, None, study=PART.study)
        return await self.authorizer.study(request, PART, answer)

    async def refused(self, call: Any) -> Reason:
        """The reason why ``call`` was refused, which is counted once and is all that the exception
        says.
        """
        before = self.decisions()
        with pytest.raises(Denied) as denied:
            await call
        reason = denied.value.reason
        assert str(denied.value) == reason.value
        key = ("deny", reason.value)
        assert self.decisions() == {**before, key: before.get(key, 0) + 1}
        return reason


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


async def test_a_study_is_permitted_by_its_facts() -> None:
    world = World()
    assert await world.study(AnswerKind.NAMED) == study_permit(
        "p1", PART, known_as=frozenset({OWN})
    )
    assert world.patients.asked == ["p1"]
    assert world.facts.asked == [PART]
    assert world.decisions() == {("permit", "study"): 1}


@pytest.mark.parametrize(
    ("owners", "found", "known_as", "reason"),
    [
        ([], False, [OWN], Reason.ABSENT),
        ([OTHER], True, [OWN], Reason.FOREIGN),
        ([OWN, OTHER], True, [OWN], Reason.SHARED_UID),
        ([OWN, PatientIdentifier("")], True, [OWN], Reason.SHARED_UID),
        ([OWN], False, [OWN], Reason.NOT_IN_STUDY),
        ([OWN], True, [], Reason.FOREIGN),
        ([OWN], True, [OTHER], Reason.FOREIGN),
        ([PatientIdentifier("")], True, [PatientIdentifier("")], Reason.FOREIGN),
    ],
)
async def test_a_study_that_is_refused(
    owners: list[PatientIdentifier], found: bool, known_as: list[PatientIdentifier], reason: Reason
) -> None:
    world = World()
    world.patients.known = frozenset(known_as)
    world.facts.known = study_facts(frozenset(owners), part_found=found)
    assert await world.refused(world.study(AnswerKind.NAMED)) is reason


def _tokens_down(world: World) -> Any:
    world.tokens.known = DOWN
    return world.token(GOOD)


def _patients_down(world: World) -> Any:
    world.patients.known = DOWN
    return world.study(AnswerKind.NAMED)


def _pacs_down(world: World) -> Any:
    world.facts.known = DOWN
    return world.study(AnswerKind.NAMED)


@pytest.mark.parametrize("failing", [_tokens_down, _patients_down, _pacs_down])
async def test_a_failure_on_the_way_is_no_decision(failing: Callable[[World], Any]) -> None:
    """SIA-16: neither a permit nor a denial."""
    world = World()
    with pytest.raises(Problem) as failed:
        await failing(world)
    assert failed.value is DOWN
    assert world.decisions() == {}


async def test_the_steps_are_timed() -> None:
    """For the request's line in the log."""
    world = World()
    with durations_of_a_request() as durations:
        await world.token(GOOD)
        await world.study(AnswerKind.NAMED)
    assert set(durations) == {"token", "patient", "issuers", "ownership"}
    assert all(0 <= seconds < 1 for seconds in durations.values())


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
        ) == patient_permit("p1", Interaction.SEARCH, (make_way(context="user"),))
    else:
        with pytest.raises(Denied):
            await world.authorizer.permit(RECORD, facts, Interaction.SEARCH, "p1")


class Lists(VisibleStudiesLookup):
    """Notes which lists are forgotten."""

    def __init__(self) -> None:
        self.constraints = NO_VIEWS.constraints
        self.forgotten: list[tuple[str, frozenset[PatientIdentifier]]] = []

    def forget_listed(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """As ``VisibleStudiesLookup``."""
        self.forgotten.append((study, frozenset(known_as)))


@pytest.mark.parametrize("inside", [OTHER, PatientIdentifier("")])
async def test_an_instance_of_another_patient_in_an_own_study(inside: PatientIdentifier) -> None:
    """What the rows said is forgotten at once; to the caller it is not there (SIA-45)."""
    lists = Lists()
    world = World(views=lists)
    world.instances.known = frozenset({OWN, inside})
    assert await world.refused(world.study(AnswerKind.UNNAMED)) is Reason.FOREIGN
    assert world.instances.asked == [header_permit("p1", PART, frozenset({OWN}))]
    assert world.invalidation.of(PART.study) == 1
    assert lists.forgotten == [(PART.study, frozenset({OWN}))]
    name = "smart_imaging_verification_failures_total"
    assert world.metrics.registry.get_sample_value(name, {"what": "instance"}) == 1


async def test_an_instance_of_a_study_that_was_corrected_is_no_alarm() -> None:
    """The archive, asked anew, says that it is another patient's: refused all the same."""
    world = World()
    world.instances.known = frozenset({OTHER})

    def forget_study(study: str) -> None:
        world.facts.known = study_facts(frozenset({OTHER}), part_found=True)

    world.invalidation.forget_study = forget_study  # type: ignore[method-assign]
    assert await world.refused(world.study(AnswerKind.UNNAMED)) is Reason.FOREIGN
    name = "smart_imaging_verification_failures_total"
    assert not world.metrics.registry.get_sample_value(name, {"what": "instance"})


async def test_instances_are_looked_at_where_the_answer_does_not_say_whose_it_is() -> None:
    world = World()
    permit = study_permit("p1", PART, known_as=frozenset({OWN}))
    assert await world.study(AnswerKind.NAMED) == permit
    assert world.instances.asked == []
    assert await world.study(AnswerKind.UNNAMED) == permit
    assert world.instances.asked == [header_permit("p1", PART, frozenset({OWN}))]
    assert world.invalidation.of(PART.study) == 0


async def test_no_instance_is_looked_at_in_a_study_of_another() -> None:
    """So it takes as long as one that is not there (SIA-45)."""
    world = World()
    world.facts.known = study_facts(frozenset({OTHER}), part_found=True)
    assert await world.refused(world.study(AnswerKind.UNNAMED)) is Reason.FOREIGN
    assert world.instances.asked == []


async def test_an_instance_that_cannot_be_read_is_no_permit() -> None:
    world = World()
    world.instances.known = DOWN
    with pytest.raises(Problem):
        await world.study(AnswerKind.UNNAMED)


async def test_an_identifier_of_the_search_must_be_the_permitted_patients() -> None:
    """SIA-22: by any system of the archive's, and to the letter."""
    world = World()
    permit = await world.authorizer.permit(RECORD, token(), Interaction.SEARCH)

    async def search(*values: str) -> object:
        named = [(None, value) for value in values]
        return await world.authorizer.authorize(
            RECORD, token(), permit, None, study=None, named=named
        )

    await search("p1")
    assert await world.refused(search("p2")) is Reason.OTHER_PATIENT
    assert await world.refused(search("p1", "p2")) is Reason.OTHER_PATIENT


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
