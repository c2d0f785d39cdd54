"""From a patient's permit to a study's: each refusal has its reason and is counted; no fact, no
permit (SIA-15, 16, 42, 45).
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.access.facts import AnswerKind, Part, PatientIdentifier, StudyFacts, Token
from sidecar.access.permits import (
    Interaction,
)
from sidecar.access.reasons import Reason
from sidecar.authorization import limits
from sidecar.authorization.decision_log import Denied
from sidecar.common.errors import Problem
from sidecar.pacs.ownership import UNNAMED_SECONDS
from tests.authorization.authorizer_world import (
    DOWN,
    GOOD,
    NOW,
    OTHER,
    OWN,
    PART,
    PERMIT,
    RECORD,
    Lists,
    World,
    authorized,
    token,
)
from tests.authorization.recorded_spans import recorded_spans
from tests.durations import durations_of_a_request
from tests.permits import (
    study_facts,
    study_permit,
)
from tests.waiting import wait_until_async


async def test_a_study_is_permitted_by_its_facts() -> None:
    world = World()
    assert await world.study(AnswerKind.NAMED) == study_permit(
        "p1", PART, known_as=frozenset({OWN})
    )
    assert world.patients.asked == ["p1"]
    assert world.facts.asked == [PART]
    assert world.decisions() == {("permit", "study"): 1}


async def test_what_is_remembered_of_a_study_is_not_asked_for() -> None:
    world = World()
    world.facts.remembered = study_facts(frozenset({OWN}), part_found=True)
    world.facts.known = DOWN
    assert await world.study(AnswerKind.NAMED)
    assert world.facts.asked == []


async def test_whose_a_study_may_be() -> None:
    """All its owners by their FHIR ids; nobody is asked where no study is named."""
    world = World()
    world.facts.known = study_facts(frozenset({OWN, OTHER}), part_found=True)
    assert await world.authorizer.owners(token(), None) == frozenset()
    assert world.facts.owners_asked == []
    assert await world.authorizer.owners(token(), "1.2") == {"p1", "p2"}
    assert world.facts.owners_asked == ["1.2"]


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
    assert [span for span in spans if span[1]] == [
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


async def test_why_a_resource_is_not_read() -> None:
    world = World()
    record = (await authorized(world)).record
    world.authorizer.unless_own(record, "1.3", ["1.3"], ["1.4"])
    for study, reason in (("1.4", Reason.SHARED_UID), ("1.5", Reason.ABSENT)):
        with pytest.raises(Denied) as denied:
            world.authorizer.unless_own(record, study, ["1.3"], ["1.4"])
        assert denied.value.reason is reason
        assert world.decisions()["deny", reason.value] == 1


@pytest.mark.parametrize("study", [None, PART.study])
async def test_a_token_that_expired_while_a_body_or_a_place_was_waited_for(
    study: str | None,
) -> None:
    """SIA-10: whatever it was permitted before; nobody is asked about its patient."""
    world = World()
    world.clock.now += 60
    assert await world.refused(authorized(world, study=study)) is Reason.EXPIRED_TOKEN
    assert world.patients.asked == []


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
        facts = Token((), NOW + 60, patient, client_id=app)
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
