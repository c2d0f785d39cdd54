"""From a request to a permit: each refusal has its reason and is counted; no fact, no permit
(SIA-10..16, 42, 45).
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest

from sidecar.access.facts import AnswerKind, Part, PatientIdentifier, Policy, StudyFacts, Token
from sidecar.access.permits import (
    ALL_STUDIES,
    HeaderPermit,
    Interaction,
    Operation,
    PatientPermit,
    SearchPermit,
    StudyPermit,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import parse_scopes
from sidecar.access.visibility import Visible
from sidecar.audit.record import AccessRecord
from sidecar.authorization import limits
from sidecar.authorization.authorizer import Authorizer, Request
from sidecar.authorization.capability_urls import (
    KEY_BYTES,
    CapabilityUrls,
    Sealer,
    SealingKey,
)
from sidecar.authorization.decision_log import Denied
from sidecar.authorization.visible_studies import VisibleStudies, VisibleStudiesLookup
from sidecar.common.errors import Problem, Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.issuer_check import Issuers
from sidecar.pacs.listing import Listing
from sidecar.pacs.ownership import UNNAMED_SECONDS, Ownership
from sidecar.pacs.studies import AsOf, Studies
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.rejection import TokenRejected
from tests.authorization.recorded_spans import recorded_spans
from tests.common.peer import Clock
from tests.durations import durations_of_a_request
from tests.fakes.site import NO_AUDIT, NO_VIEWS
from tests.permits import (
    backend_client,
    header_permit,
    make_path,
    make_policy,
    make_visible,
    patient_permit,
    search_permit,
    study_facts,
    study_permit,
)
from tests.waiting import wait_until_async

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
        self.ages: list[float] = []

    async def facts(
        self,
        part: Part,
        known_as: frozenset[PatientIdentifier],
        *,
        max_age_seconds: float = math.inf,
    ) -> StudyFacts:
        """As the PACS says."""
        self.asked.append(part)
        self.ages.append(max_age_seconds)
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


def _issuers_down(world: World) -> Any:
    world.issuers.failing = DOWN
    return world.study(AnswerKind.NAMED)


def _pacs_down(world: World) -> Any:
    world.facts.known = DOWN
    return world.study(AnswerKind.NAMED)


@pytest.mark.parametrize("failing", [_tokens_down, _patients_down, _issuers_down, _pacs_down])
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
        ) == patient_permit("p1", Interaction.SEARCH, (make_path(context="user"),))
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


class Views(Lists):
    """Shows ``visible``; ``asked`` has what was looked up, and whether it had to be fresh."""

    def __init__(self, visible: Mapping[str, Visible], shared: Iterable[str] = ()) -> None:
        super().__init__()
        self.asked: list[tuple[str | None, bool]] = []
        self._studies = cast("Studies", SimpleNamespace(owners=SimpleNamespace(of=self._owners)))
        listing = Listing([], datetime(2024, 1, 1, tzinfo=UTC), shared=frozenset(shared))
        self.view = VisibleStudies(
            cast("Studies", None), SEARCH, listing, AsOf(listing.asked), (), {}, visible
        )

    async def of(
        self, permit: PatientPermit, search: SearchPermit, *, fresh: bool = False
    ) -> VisibleStudies:
        """As ``VisibleStudiesLookup``."""
        assert search == SEARCH
        self.asked.append((None, fresh))
        return self.view

    async def of_study(
        self, permit: PatientPermit, search: SearchPermit, study: str, *, fresh: bool = False
    ) -> VisibleStudies:
        """As ``VisibleStudiesLookup``."""
        assert search == SEARCH
        self.asked.append((study, fresh))
        return self.view

    async def _owners(
        self, studies: Iterable[str], known_as: frozenset[PatientIdentifier]
    ) -> dict[str, frozenset[PatientIdentifier]]:
        """As the archive says: some are shared, and some are foreign or absent by their name."""
        assert known_as == SEARCH.known_as
        shared = self.view.listing.shared
        owners = {"foreign": {OTHER}, "absent": set[PatientIdentifier]()}
        owners |= {uid: {OWN, OTHER} for uid in shared}
        return {uid: frozenset(owners.get(uid, {OWN})) for uid in studies}


SEARCH = search_permit("p1", frozenset({OWN}))
LIMITED = patient_permit("p1", Interaction.RETRIEVE, (make_path("modality=CT"),))


def record() -> AccessRecord:
    """Return one of a request with a token."""
    made = AccessRecord("r2")
    made.bearer = "a-good-token"
    return made


async def authorized(
    world: World, permit: PatientPermit = PERMIT, study: str | None = None, *, fresh: bool = False
) -> Request:
    """Return a request that is authorized by ``permit``."""
    return await world.authorizer.authorize(
        record(), token(), permit, None, study=study, fresh=fresh
    )


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    ("permit", "study", "asked", "steps"),
    [
        (PERMIT, None, [], []),
        (PERMIT, "1.2", [], []),
        (LIMITED, None, [None], ["fetch"]),
        (LIMITED, "1.2", ["1.2"], ["description"]),
    ],
)
async def test_what_a_request_sees_is_looked_up_for_a_limited_permit_alone(
    permit: PatientPermit,
    study: str | None,
    asked: list[str | None],
    steps: list[str],
    fresh: bool,
) -> None:
    views = Views({})
    world = World(views=views)
    with recorded_spans() as spans:
        request = await authorized(world, permit, study, fresh=fresh)
    assert views.asked == [(one, fresh) for one in asked]
    assert request.visible is (views.view if asked else ALL_STUDIES)
    assert [name for name, _ in spans] == ["patient", "issuers", *steps]
    with durations_of_a_request() as durations:
        await authorized(world, LIMITED, "1.2")
    assert set(durations) == {"patient", "issuers", "description"}


@pytest.mark.parametrize("fresh", [False, True])
async def test_the_studies_of_a_request_are_looked_up_once(fresh: bool) -> None:
    views = Views({})
    world = World(views=views)
    limited, all_of_them = await authorized(world, LIMITED), await authorized(world)
    views.asked.clear()
    assert await world.authorizer.studies(limited, fresh=fresh) is views.view
    assert views.asked == []
    with recorded_spans() as spans:
        assert await world.authorizer.studies(all_of_them, fresh=fresh) is views.view
    assert views.asked == [(None, fresh)]
    assert spans == [("fetch", {})]


@pytest.mark.parametrize("answer", AnswerKind)
async def test_a_study_that_is_not_shown_is_refused(answer: AnswerKind) -> None:
    """Before anybody is asked whose it is."""
    world = World(views=Views({"1.3": make_visible()}))
    request = await authorized(world, LIMITED, "1.2")
    assert await world.refused(world.authorizer.study(request, PART, answer)) is Reason.NOT_SHOWN
    assert world.facts.asked == []


async def test_who_may_have_some_series_learns_which() -> None:
    shown = make_visible(frozenset({"1.3"}), is_complete=False)
    world = World(views=Views({"1.2": shown}))
    request = await authorized(world, LIMITED, "1.2")
    with pytest.raises(Denied) as denied:
        await world.authorizer.study(request, Part("1.2"), AnswerKind.NAMED)
    assert denied.value.reason is Reason.PARTLY_EXCLUDED
    assert denied.value.series == {"1.3"}
    permit = await world.authorizer.study(request, PART, AnswerKind.NAMED)
    assert permit.series == frozenset({"1.3"})


@pytest.mark.parametrize(
    ("answer", "age"),
    [
        (AnswerKind.LISTED, math.inf),
        (AnswerKind.NAMED, math.inf),
        (AnswerKind.UNNAMED, UNNAMED_SECONDS),
        (AnswerKind.DRAWN, 0),
    ],
)
async def test_how_old_remembered_owners_may_be(answer: AnswerKind, age: float) -> None:
    """What names no patient would not show that the study has been filed for somebody else."""
    world = World()
    with recorded_spans() as spans:
        await world.study(answer)
    assert world.facts.ages == [age]
    opened = answer in (AnswerKind.UNNAMED, AnswerKind.DRAWN)
    permit = ("decide study", {"smart_imaging.outcome": "permit"})
    assert spans == [
        ("patient", {}),
        ("issuers", {}),
        ("ownership", {}),
        permit,
        *([("ownership", {}), permit] if opened else []),
    ]


async def test_a_refusal_is_in_its_span() -> None:
    world = World()
    world.facts.known = study_facts(frozenset({OTHER}), part_found=True)
    with recorded_spans() as spans:
        assert await world.refused(world.study(AnswerKind.NAMED)) is Reason.FOREIGN
        await world.refused(world.authorizer.permit(RECORD, token("openid"), Interaction.READ))
        await world.authorizer.permit(RECORD, token(), Interaction.READ)
    assert [one for one in spans if one[1]] == [
        ("decide study", {"smart_imaging.outcome": "deny", "smart_imaging.reason": "foreign"}),
        (
            "decide patient",
            {"smart_imaging.outcome": "deny", "smart_imaging.reason": "insufficient_scope"},
        ),
        ("decide patient", {"smart_imaging.outcome": "permit"}),
    ]


@pytest.mark.parametrize(
    ("owners", "reason", "forgotten"),
    [
        ({OWN, OTHER}, Reason.SHARED_UID, [("1.2", frozenset({OWN}))]),
        ({OTHER}, Reason.FOREIGN, []),
        (set(), Reason.ABSENT, []),
    ],
)
async def test_lists_that_show_a_shared_study_are_forgotten(
    owners: set[PatientIdentifier], reason: Reason, forgotten: list[object]
) -> None:
    """A refusal by the rows is no alarm about an instance, and nothing else is forgotten."""
    lists = Lists()
    world = World(views=lists)
    world.facts.known = study_facts(frozenset(owners), part_found=True)
    assert await world.refused(world.study(AnswerKind.NAMED)) is reason
    assert lists.forgotten == forgotten
    assert world.invalidation.of("1.2") == 0
    assert len(world.facts.asked) == 1
    assert world.metrics.registry.get_sample_value("smart_imaging_shared_uids_total") == (
        1 if forgotten else 0
    )


@pytest.mark.parametrize("is_corrected", [False, True])
async def test_the_log_says_why_an_instance_is_another_patients(
    is_corrected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.authorizer.decisions.foreign_inside(record(), is_corrected=is_corrected)
    (line,) = caplog.records
    assert line.levelname == ("WARNING" if is_corrected else "ERROR")
    assert line.getMessage() == "an instance is not the patient's as whose the archive lists it"
    assert (line.reason, line.request_id) == (  # type: ignore[attr-defined]
        "corrected" if is_corrected else "foreign_instance",
        "r2",
    )


async def test_a_second_look_is_by_facts_that_are_worked_out_anew() -> None:
    """SIA-42: identifiers, issuers, what is shown, and whose it is."""
    views = Views({"1.2": make_visible()})
    world = World(views=views)
    request = await authorized(world, LIMITED, "1.2")
    permit = await world.authorizer.decide_again(request, PART, AnswerKind.NAMED)
    assert permit == study_permit("p1", PART, known_as=frozenset({OWN}))
    assert world.patients.asked == ["p1", "p1"]
    assert views.asked == [("1.2", False)] * 2
    views.view = Views({}).view
    again = world.authorizer.decide_again(request, PART, AnswerKind.NAMED)
    assert await world.refused(again) is Reason.NOT_SHOWN


def capability_urls(clock: Callable[[], float]) -> CapabilityUrls:
    """Return some that hold for a minute."""
    sealer = Sealer([SealingKey("one", b"1" * KEY_BYTES)], "https://us.example.org")
    return CapabilityUrls(
        sealer,
        "https://us.example.org",
        operations=frozenset(Operation),
        lifetime_seconds=60,
        clock=clock,
    )


async def test_addresses_are_issued_for_what_a_retrieval_may_see() -> None:
    """SIA-52: not for what is hidden, nor for a token that may search only."""
    views = Views({"1.2": make_visible(), "1.4": make_visible()}, shared=["1.4"])
    world = World(views=views)
    request = await authorized(world)
    studies = ["1.2", "1.3", "1.4"]
    assert await world.authorizer.issue(request, studies) == {}
    world.authorizer.capabilities = capability_urls(world.clock)
    with recorded_spans() as spans:
        issued = await world.authorizer.issue(request, studies)
    assert [name for name, _ in spans] == ["decide patient", "fetch"]
    assert list(issued) == ["1.2"]
    assert issued["1.2"].root.startswith("https://us.example.org/capability/one.")
    assert issued["1.2"].expires_at == NOW + 60
    assert issued["1.2"].full_url.startswith("urn:uuid:")
    name = "smart_imaging_capability_urls_issued_total"
    assert world.metrics.registry.get_sample_value(name) == 1
    views.asked.clear()
    for scope, made in (("patient/ImagingStudy.s", record()), ("patient/*.rs", AccessRecord("x"))):
        other = await world.authorizer.authorize(made, token(scope), PERMIT, None, study=None)
        assert await world.authorizer.issue(other, studies) == {}
    assert views.asked == []


async def test_what_a_list_leaves_out_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(views=Views({}, shared=["1.4", "1.5"]))
    request = await authorized(world)
    for studies, left in (
        (["1.2", "1.4", "foreign", "absent", "1.2"], {"1.2"}),
        (["1.2", "1.4"], {"1.2"}),
        (["1.4", "1.5"], set()),
    ):
        assert await world.authorizer.unrefused(request, studies) == left
    assert request.record.left_out == {"1.4", "1.5"}
    assert [
        (one.reason, one.studies, one.request_id)  # type: ignore[attr-defined]
        for one in caplog.records
    ] == [("shared_uid", 1, "r2")] * 2
    assert caplog.records[0].getMessage() == (
        "a StudyInstanceUID stands under another patient as well: "
        "refused to both, and left out of lists"
    )
    assert world.metrics.registry.get_sample_value("smart_imaging_shared_uids_total") == 2


async def test_why_a_resource_is_not_read() -> None:
    world = World()
    record = (await authorized(world)).record
    world.authorizer.unless_own(record, "1.3", ["1.3"], ["1.4"])
    for study, reason in (("1.4", Reason.SHARED_UID), ("1.5", Reason.ABSENT)):
        with pytest.raises(Denied) as denied:
            world.authorizer.unless_own(record, study, ["1.3"], ["1.4"])
        assert denied.value.reason is reason
        assert world.decisions()["deny", reason.value] == 1


async def test_all_apps_of_a_patient_share_the_places_for_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that one patient's apps together do not keep other patients out."""
    monkeypatch.setattr(limits, "QUERIES_AT_ONCE", (2, 1))
    monkeypatch.setattr(limits, "QUERIES_WAITING", 0)
    world = World()

    async def hang(part: Part, known_as: object, *, max_age_seconds: float) -> StudyFacts:
        world.facts.asked.append(part)
        await asyncio.Event().wait()
        raise AssertionError

    world.facts.facts = hang  # type: ignore[assignment]

    async def question(patient: str, app: str) -> StudyFacts:
        facts = Token((), NOW, patient, client_id=app)
        request = await world.authorizer.authorize(RECORD, facts, PERMIT, None, study="1.2")
        return await world.authorizer.facts(request, PART)

    first = asyncio.create_task(question("p1", "a"))
    await wait_until_async("the first", lambda: world.facts.asked)
    with pytest.raises(Problem) as refused:
        await question("p1", "b")
    assert refused.value.status == 429
    second = asyncio.create_task(question("p2", "a"))
    await wait_until_async("the second", lambda: len(world.facts.asked) == 2)
    for asking in (first, second):
        asking.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


@pytest.mark.parametrize(
    ("known", "is_corrected"),
    [
        (study_facts(frozenset({OWN}), part_found=True), False),
        (study_facts(frozenset({OTHER}), part_found=True), True),
        (study_facts(frozenset({OWN}), part_found=False), True),
        (study_facts(frozenset(), part_found=False), True),
        (DOWN, False),
    ],
)
async def test_whether_the_archive_was_corrected_is_asked_anew(
    known: StudyFacts | Exception, is_corrected: bool
) -> None:
    """An archive that cannot be asked explains nothing; what was remembered is forgotten anyway."""
    lists = Lists()
    world = World(views=lists)
    request = await authorized(world)
    world.facts.known = known
    assert await world.authorizer.is_corrected(request, PART) is is_corrected
    assert world.facts.ages == [0]
    assert world.invalidation.of("1.2") == 1
    assert lists.forgotten == [("1.2", frozenset({OWN}))]


async def test_a_rejected_token_is_refused_with_its_reason() -> None:
    world = World()
    world.tokens.known = TokenRejected(Reason.EXPIRED_TOKEN, "exp")
    assert await world.refused(world.token(GOOD)) is Reason.EXPIRED_TOKEN


async def test_the_record_names_the_token_and_whom_it_is_for() -> None:
    world = World()
    made = AccessRecord("r3")
    found = await world.authorizer.token(made, [GOOD])
    assert made.token is found
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
    for call in (
        lambda made: world.authorizer.permit(made, facts, Interaction.READ, asked_for),
        lambda made: world.authorizer.may_search(made, facts, asked_for),
        lambda made: world.authorizer.may_search(made, without_scope, asked_for),
    ):
        made = AccessRecord("r3", patient="nobody yet")
        goes_on = False
        with contextlib.suppress(Denied):
            goes_on = await call(made) is None
        assert made.patient == ("nobody yet" if goes_on else recorded)


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


@pytest.mark.parametrize(
    ("bearer", "study", "operation", "reason"),
    [
        ("a-good-token", "1.2", Operation.RETRIEVE, None),
        ("a-good-token", None, Operation.QUERY, None),
        ("another-token", "1.2", Operation.RETRIEVE, Reason.OTHER_TOKEN),
        ("a-good-token", "1.3", Operation.RETRIEVE, Reason.ABSENT),
    ],
)
async def test_a_capability_is_used_with_its_token_for_its_study(
    bearer: str, study: str | None, operation: Operation, reason: Reason | None
) -> None:
    """SIA-50..52: the token first, then the seal, then what it covers, then the patient."""
    world = World()
    urls = capability_urls(world.clock)
    root = urls.issue("a-good-token", NOW + 30, "p1", "1.2").root
    sealed = root.rpartition("/")[2]

    def used(text: str) -> Any:
        authorization = [f"Bearer {bearer}"]
        return world.authorizer.capability(made, authorization, text, study, operation)

    made = AccessRecord("r4")
    assert await world.refused(used(sealed)) is Reason.UNKNOWN_CAPABILITY  # They are off.
    world.authorizer.capabilities = urls
    assert await world.refused(used(sealed[:-1])) is Reason.UNKNOWN_CAPABILITY
    assert made.patient is None
    if reason is not None:
        assert await world.refused(used(sealed)) is reason
        assert made.patient == "p1"
        return
    found, permit, capability = await used(sealed)
    assert (found, permit) == (token(), patient_permit("p1", Interaction.RETRIEVE))
    assert (capability.patient, capability.study) == ("p1", "1.2")
    world.tokens.known = token("patient/*.s")
    assert await world.refused(used(sealed)) is Reason.INSUFFICIENT_SCOPE
    world.clock.now += 30
    world.tokens.known = token(expires_at=NOW + 60)
    assert await world.refused(used(sealed)) is Reason.EXPIRED_CAPABILITY
