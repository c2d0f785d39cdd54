"""The authorizer looks into instances where the answer does not name its patient (SIA-42, 45)."""

import pytest

from sidecar.access.facts import AnswerKind, PatientIdentifier, StudyFacts
from sidecar.access.reasons import Reason
from sidecar.common.errors import Problem
from tests.authorization.authorizer_world import (
    DOWN,
    OTHER,
    OWN,
    PART,
    Lists,
    World,
    authorized,
    record,
)
from tests.permits import (
    header_permit,
    study_facts,
    study_permit,
)


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


@pytest.mark.parametrize(
    ("answer", "remembered", "reason", "opened"),
    [
        (AnswerKind.UNNAMED, OWN, None, False),
        (AnswerKind.UNNAMED, OTHER, Reason.FOREIGN, False),
        (AnswerKind.DRAWN, OWN, None, True),
        (AnswerKind.DRAWN, OTHER, None, True),
    ],
)
async def test_what_is_drawn_is_not_decided_by_what_instances_are_remembered_to_name(
    answer: AnswerKind, remembered: PatientIdentifier, reason: Reason | None, opened: bool
) -> None:
    """It is decided by what the archive says now: here that they are the patient's."""
    world = World()
    world.instances.remembered = frozenset({remembered})
    if reason is None:
        assert await world.study(answer)
    else:
        assert await world.refused(world.study(answer)) is reason
    assert bool(world.instances.asked) is opened


async def test_an_instance_that_is_remembered_does_not_put_its_part_into_the_study() -> None:
    world = World()
    world.facts.known = study_facts(frozenset({OWN}), part_found=False)
    world.instances.remembered = frozenset({OWN})
    assert await world.refused(world.study(AnswerKind.UNNAMED)) is Reason.NOT_IN_STUDY


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
