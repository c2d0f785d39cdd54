"""Whose study, and is the part in it? Established by rows that say so themselves (SIA-42; attack
"Hierarchy").
"""

import asyncio

import pytest

from sidecar.access.facts import Part, PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.dicomweb.upstream_errors import UnknownTexts
from sidecar.pacs.ownership import INDEXED_INSTANCES
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row, settle
from tests.pacs.owned_studies import (
    FOREIGN_SERIES,
    FOREIGN_STUDY,
    KNOWN,
    OTHER,
    OWN,
    SERIES,
    STUDY,
    archive,
    ownership,
)
from tests.permits import study_facts

PARTS: dict[str, tuple[Part, bool]] = {
    "the study": (Part(STUDY), True),
    "a series": (Part(STUDY, SERIES), True),
    "an instance": (Part(STUDY, SERIES, f"{SERIES}.1"), True),
    "a foreign series": (Part(STUDY, FOREIGN_SERIES), False),
    "a foreign series with its own instance": (
        Part(STUDY, FOREIGN_SERIES, f"{FOREIGN_SERIES}.1"),
        False,
    ),
    "a foreign instance in an own series": (Part(STUDY, SERIES, f"{FOREIGN_SERIES}.1"), False),
    "an own instance in a foreign series": (Part(STUDY, FOREIGN_SERIES, f"{SERIES}.1"), False),
    "no such series": (Part(STUDY, "1.5"), False),
    "no such instance": (Part(STUDY, SERIES, "1.5"), False),
}


@pytest.mark.parametrize("what", PARTS)
@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("warm", [False, True])
async def test_facts(what: str, filters: bool, warm: bool) -> None:
    """The same with a PACS that ignores what path and parameters say, and the same when the answer
    is cached.
    """
    part, part_found = PARTS[what]
    facts = ownership(archive(filters=filters))
    if warm:
        for other, _ in PARTS.values():
            await facts.facts(other, KNOWN)
    assert await facts.facts(part, KNOWN) == study_facts(frozenset({OWN}), part_found=part_found)


async def test_a_foreign_study_has_its_own_owner() -> None:
    facts = await ownership(archive()).facts(Part(FOREIGN_STUDY, FOREIGN_SERIES), KNOWN)
    assert facts == study_facts(frozenset({OTHER}), part_found=True)


@pytest.mark.parametrize("part", [Part(FOREIGN_STUDY), Part(FOREIGN_STUDY, FOREIGN_SERIES)])
async def test_a_foreign_study_costs_what_an_absent_one_costs(part: Part) -> None:
    """SIA-45: no app learns by the time of a 404, its own earlier one or another's visit, that
    there is a study.
    """
    absent = Part("1.5", part.series)
    clock = Clock()
    pacs = archive()
    facts = ownership(pacs, clock)
    mine = frozenset({OWN})

    async def cost(of: Part) -> int:
        before = len(pacs.levels)
        await facts.facts(of, mine)
        return len(pacs.levels) - before

    await facts.facts(part, frozenset({OTHER}))  # Its patient looks at it.
    for seconds in (0.0, 1.0, 5.1, 1.0, 300.0, 6.0):
        clock.now += seconds
        assert await cost(part) == await cost(absent)
    assert not (await facts.facts(part, mine)).part_found


async def test_no_such_study() -> None:
    """The parts are not even looked for."""
    pacs = archive()
    assert await ownership(pacs).facts(Part("1.5", SERIES), KNOWN) == study_facts(
        frozenset(), part_found=False
    )
    assert pacs.levels == ["studies"]


async def test_two_patients_under_one_uid_are_both_owners() -> None:
    """A retrieval by UID could bring either (a copy, a mistake): the decision must know of both."""
    pacs = FakePacs(
        row("p1", STUDY), row("p2", STUDY), row("p1", STUDY, issuer="A"), row(None, STUDY)
    )
    owners = await ownership(pacs).owners(STUDY, KNOWN)
    assert owners == {OWN, OTHER, PatientIdentifier("p1", "A"), PatientIdentifier("")}


async def test_the_owner_is_asked_for_by_uid_alone() -> None:
    """With the PatientID in the query, the second patient of a UID would never be seen."""
    pacs = archive()
    await ownership(pacs).owners(STUDY, KNOWN)
    (asked,) = pacs.asked
    assert asked[1] == {"StudyInstanceUID": STUDY, "includefield": "00100020,00100021"}


async def test_rows_of_other_studies_say_nothing() -> None:
    """A PACS that returns more than was asked for."""
    pacs = FakePacs(
        row("p2", "1.20"), row("p2", None), row("p1", STUDY), row("p2", "1.2.0"), filters=False
    )
    assert await ownership(pacs).owners(STUDY, KNOWN) == {OWN}


async def test_an_owner_beyond_the_first_rows_is_no_secret() -> None:
    """A PACS that ignores the filter: what was not seen must not count as nobody's (raising is
    fine, too).
    """
    pacs = FakePacs(*(row("p1", STUDY) for _ in range(100)), row("p2", STUDY), filters=False)
    assert OTHER in await ownership(pacs).owners(STUDY, KNOWN)


async def test_the_second_instance_of_a_series_brings_all() -> None:
    """A viewer asks for one after the other: three queries, however many there are."""
    pacs = archive(instances=200)
    facts = ownership(pacs)
    for number in range(200):
        assert (await facts.facts(Part(STUDY, SERIES, f"{SERIES}.{number}"), KNOWN)).part_found
    assert pacs.levels == ["studies", "instances", "instances"]
    assert "SOPInstanceUID" in pacs.asked[1][1]
    assert "SOPInstanceUID" not in pacs.asked[2][1]
    # Known to be in the series, and so is the series in the study.
    assert await facts.holds(Part(STUDY, SERIES), KNOWN)
    assert len(pacs.asked) == 3


@pytest.mark.parametrize("filters", [True, False])
async def test_all_of_a_series_are_its_own_instances_only(filters: bool) -> None:
    """Rows of other series, or that do not say where they belong, are not taken over."""
    pacs = archive(filters=filters)
    pacs.rows += [
        row("p1", STUDY, None, "1.7"),
        row("p1", None, SERIES, "1.8"),
        row("p1", STUDY, FOREIGN_SERIES, "1.6"),
    ]
    facts = ownership(pacs)
    for number in range(2):
        assert await facts.holds(Part(STUDY, SERIES, f"{SERIES}.{number}"), KNOWN)
    for foreign in ("1.6", "1.7", "1.8", f"{FOREIGN_SERIES}.0"):
        assert not await facts.holds(Part(STUDY, SERIES, foreign), KNOWN)


async def test_an_instance_that_is_not_among_the_first_of_a_series_is_asked_for() -> None:
    """More than one query brings, or arrived since."""
    pacs = archive(instances=INDEXED_INSTANCES + 5)
    facts = ownership(pacs)
    for number in (0, 1, INDEXED_INSTANCES + 4):
        assert await facts.holds(Part(STUDY, SERIES, f"{SERIES}.{number}"), KNOWN)
    assert pacs.levels == ["instances"] * 3
    pacs.rows.append(row("p1", STUDY, SERIES, "1.5"))
    assert await facts.holds(Part(STUDY, SERIES, "1.5"), KNOWN)
    assert not await facts.holds(Part(STUDY, SERIES, "1.6"), KNOWN)


async def test_all_who_ask_at_once_share_a_query() -> None:
    pacs = archive()
    pacs.gate.clear()
    facts = ownership(pacs)
    part = Part(STUDY, SERIES, f"{SERIES}.0")
    waiting = [asyncio.create_task(facts.facts(part, KNOWN)) for _ in range(100)]
    await settle()
    assert pacs.levels == ["studies"]
    pacs.gate.set()
    assert set(await asyncio.gather(*waiting)) == {study_facts(frozenset({OWN}), part_found=True)}
    assert pacs.levels == ["studies", "instances"]


async def test_many_instances_at_once_bring_the_whole_series_once() -> None:
    """A viewer with 16 connections causes one query for the 5,000 rows of a series."""
    pacs = archive(instances=40)
    facts = ownership(pacs)
    await facts.facts(Part(STUDY, SERIES, f"{SERIES}.0"), KNOWN)
    asked = len(pacs.asked)
    parts = [Part(STUDY, SERIES, f"{SERIES}.{number}") for number in range(1, 17)]
    assert all(await asyncio.gather(*(facts.holds(part, KNOWN) for part in parts)))
    assert len(pacs.asked) - asked == 1


async def test_a_part_of_somebody_elses_study_under_the_same_uid() -> None:
    """It came after the owners were asked for: pixels carry no patient inside, so the row itself
    must say it.
    """
    pacs, own = archive(), frozenset({OWN})
    kept = Invalidation()
    facts = ownership(pacs, invalidation=kept)
    assert (await facts.facts(Part(STUDY), own)).part_found
    pacs.rows.append(row("p2", STUDY, "1.8", "1.8.1"))
    for part in (Part(STUDY, "1.8"), Part(STUDY, "1.8", "1.8.1")):
        assert not (await facts.facts(part, own)).part_found
    # And whatever came for whomever: owners are asked for anew.
    kept.archive_changed({"p2"})
    assert OTHER in (await facts.facts(Part(STUDY), own)).owners


async def test_what_one_patient_may_have_is_not_known_for_another() -> None:
    pacs = archive()
    facts = ownership(pacs)
    part = Part(STUDY, SERIES, f"{SERIES}.0")
    assert await facts.holds(part, KNOWN)
    assert not await facts.holds(part, frozenset({OTHER}))


async def test_rows_that_the_pacs_cannot_give_whole_are_of_nobody() -> None:
    """Whoever asks: a study that is there is refused like one of another patient (SIA-45)."""
    pacs = archive()
    kept = Invalidation()
    facts = ownership(pacs, invalidation=kept)
    assert (await facts.facts(Part(STUDY), KNOWN)).part_found
    pacs.failure = UnknownTexts("x", reason="query_character_set")
    assert not (await facts.facts(Part(STUDY, SERIES), KNOWN)).part_found
    kept.archive_changed(None)
    assert await facts.facts(Part(STUDY), KNOWN) == study_facts(
        frozenset({PatientIdentifier("")}), part_found=False
    )
