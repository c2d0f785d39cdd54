"""What an authorized request sees: identifiers, lists and studies of a limited permit (SIA-22)."""

import pytest

from sidecar.access.facts import AnswerKind, Part
from sidecar.access.permits import (
    ALL_STUDIES,
    Interaction,
    PatientPermit,
)
from sidecar.access.reasons import Reason
from sidecar.authorization.decision_log import Denied
from tests.authorization.authorizer_world import (
    OWN,
    PART,
    PERMIT,
    RECORD,
    Views,
    World,
    authorized,
    token,
)
from tests.authorization.recorded_spans import recorded_spans
from tests.durations import durations_of_a_request
from tests.permits import (
    make_path,
    make_visible,
    patient_permit,
    study_permit,
)


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


LIMITED = patient_permit("p1", Interaction.RETRIEVE, (make_path("modality=CT"),))


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
    assert views.asked == [(uid, fresh) for uid in asked]
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
        (line.reason, line.studies, line.request_id)  # type: ignore[attr-defined]
        for line in caplog.records
    ] == [("shared_uid", 1, "r2")] * 2
    assert caplog.records[0].getMessage() == (
        "a StudyInstanceUID stands under another patient as well: "
        "refused to both, and left out of lists"
    )
    assert world.metrics.registry.get_sample_value("smart_imaging_shared_uids_total") == 2
