"""How long owners and parts are cached, what forgets them, and how many there may be (SIA-42)."""

import asyncio
from collections.abc import Sized

import pytest

from sidecar.access.facts import Part
from sidecar.common.errors import Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.pacs.ownership import UNNAMED_SECONDS
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


@pytest.mark.parametrize(("seconds", "queries"), [(UNNAMED_SECONDS - 0.1, 0), (UNNAMED_SECONDS, 1)])
async def test_owners_may_not_be_older_than_is_wanted(seconds: float, queries: int) -> None:
    """SIA-42: a frame does not show that its study was filed for somebody else since."""
    clock = Clock()
    pacs = archive()
    facts = ownership(pacs, clock)
    part = Part(STUDY, SERIES)
    assert (await facts.facts(part, KNOWN, max_age_seconds=UNNAMED_SECONDS)).part_found
    clock.now += seconds
    asked = len(pacs.asked)
    await facts.facts(part, KNOWN)
    assert len(pacs.asked) == asked
    assert (await facts.facts(part, KNOWN, max_age_seconds=UNNAMED_SECONDS)).part_found
    assert len(pacs.asked) == asked + queries


@pytest.mark.parametrize("max_age_seconds", [0, UNNAMED_SECONDS])
@pytest.mark.parametrize("study", [FOREIGN_STUDY, "1.5"])
async def test_a_refusal_counts_whatever_its_age(study: str, max_age_seconds: float) -> None:
    """A client that asks again and again for what is not the patient's is no load."""
    clock, pacs = Clock(), archive()
    facts = ownership(pacs, clock)
    for seconds, queries in ((0.0, 1), (4.9, 1), (0.2, 2)):
        clock.now += seconds
        await facts.facts(Part(study), frozenset({OWN}), max_age_seconds=max_age_seconds)
        assert len(pacs.asked) == queries


async def test_a_list_forgets_no_refusal() -> None:
    """What it saw of others is forgotten where a read would permit; else nothing is asked."""
    pacs = archive()
    facts = ownership(pacs)
    for study, queries in ((FOREIGN_STUDY, 1), (STUDY, 2)):
        pacs.asked.clear()
        for _ in range(2):
            await facts.facts(Part(study), frozenset({OWN}))
            facts.forget_owners(study, frozenset({OWN}))
        assert len(pacs.asked) == queries


async def test_what_was_found_is_kept_for_its_time() -> None:
    pacs, clock = archive(), Clock()
    facts = ownership(pacs, clock)
    part = Part(STUDY, SERIES, f"{SERIES}.0")
    for seconds in (0, 100, 199):
        clock.now = 1_000_000 + seconds
        assert (await facts.facts(part, KNOWN)).part_found
    assert pacs.levels == ["studies", "instances"]
    pacs.rows = [row("p2", STUDY, SERIES, f"{SERIES}.0")]  # The study is moved to another patient.
    clock.now = 1_000_000 + 299
    assert (await facts.facts(part, KNOWN)).owners == {OWN}
    clock.now = 1_000_000 + 301
    assert (await facts.facts(part, KNOWN)).owners == {OTHER}


async def test_a_walk_through_a_series_does_not_prolong_what_is_known() -> None:
    """Each new instance adds to what is known of its series; the series is looked at again after
    its time.
    """
    pacs, clock = archive(instances=40), Clock()
    facts = ownership(pacs, clock)
    for number in range(29):
        clock.now = 1_000_000 + number * 10
        assert await facts.holds(Part(STUDY, SERIES, f"{SERIES}.{number}"), KNOWN)
    pacs.rows = []
    clock.now = 1_000_000 + 301
    assert not await facts.holds(Part(STUDY, SERIES, f"{SERIES}.0"), KNOWN)


@pytest.mark.parametrize(
    "part", [Part("1.5"), Part(STUDY, "1.2.5"), Part(STUDY, SERIES, "1.2.1.5")]
)
async def test_what_was_not_found_is_kept_briefly(part: Part) -> None:
    """Images arrive; a client that asks for nothing again and again is no load."""
    pacs, clock = archive(), Clock()
    facts = ownership(pacs, clock)
    before = await facts.facts(part, KNOWN)
    assert not before.part_found
    asked = len(pacs.asked)
    pacs.rows.append(row("p1", part.study, part.series, part.instance))
    clock.now += 4.9
    assert await facts.facts(part, KNOWN) == before
    assert len(pacs.asked) == asked
    clock.now += 0.2
    assert await facts.facts(part, KNOWN) == study_facts(frozenset({OWN}), part_found=True)


async def test_a_failure_is_not_kept() -> None:
    pacs = archive()
    facts = ownership(pacs)
    part = Part(STUDY, SERIES)
    pacs.failure = Unavailable("Not now.", reason="down")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await facts.facts(part, KNOWN)
    pacs.failure = None
    assert (await facts.facts(part, KNOWN)).part_found
    pacs.failure = Unavailable("Not now.", reason="down")
    with pytest.raises(Unavailable):
        await facts.facts(Part(STUDY, SERIES, f"{SERIES}.0"), KNOWN)
    pacs.failure = None
    assert (await facts.facts(Part(STUDY, SERIES, f"{SERIES}.0"), KNOWN)).part_found


async def test_what_is_kept_is_bounded() -> None:
    pacs = FakePacs(*(row("p1", f"1.{number}", f"2.{number}") for number in range(50)))
    facts = ownership(pacs, max_entries=10)
    for number in range(50):
        assert (await facts.facts(Part(f"1.{number}", f"2.{number}"), KNOWN)).part_found
        await facts.facts(Part(f"1.{number}", "9.9"), KNOWN)
    caches: list[Sized] = [facts._owners, facts._series, facts._absent]
    assert max(map(len, caches)) <= 10


async def test_closing_ends_what_is_under_way() -> None:
    pacs = archive()
    facts = ownership(pacs)
    assert await facts.owners(STUDY, KNOWN)
    pacs.gate.clear()
    waiting = [
        asyncio.create_task(facts.facts(Part(study, SERIES), KNOWN))
        for study in (STUDY, FOREIGN_STUDY)
    ]
    await settle()
    assert pacs.at_once == 2
    await facts.close()
    assert pacs.at_once == 0
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_questions_about_others_push_out_nobodys_answers() -> None:
    """One who asks for thousands of studies that are not theirs makes nobody else's be looked for
    again.
    """
    pacs = archive()
    facts = ownership(pacs, max_entries=10)
    await facts.facts(Part(STUDY), frozenset({OWN}))
    for number in range(100):
        await facts.facts(Part(f"1.5.{number}"), frozenset({OTHER}))
        await facts.facts(Part(STUDY), frozenset({OTHER}))
    asked = len(pacs.levels)
    assert (await facts.facts(Part(STUDY), frozenset({OWN}))).part_found
    assert len(pacs.levels) == asked


async def test_forgetting_one_patient_keeps_the_parts_of_others() -> None:
    """But no owners: what came for one patient may be under a UID that another one has."""
    pacs = archive()
    kept = Invalidation()
    owned = ownership(pacs, invalidation=kept)
    own, other = frozenset({OWN}), frozenset({OTHER})
    await owned.facts(Part(STUDY, SERIES), own)
    await owned.facts(Part(FOREIGN_STUDY, FOREIGN_SERIES), other)
    kept.archive_changed({"p1"})
    asked = len(pacs.asked)
    await owned.facts(Part(FOREIGN_STUDY, FOREIGN_SERIES), other)
    assert pacs.levels[asked:] == ["studies"]
    await owned.facts(Part(STUDY, SERIES), own)
    assert pacs.levels[asked:] == ["studies", "studies", "series"]


async def test_an_owner_who_was_asked_for_before_something_changed_is_not_kept() -> None:
    pacs = archive()
    kept = Invalidation()
    owned = ownership(pacs, invalidation=kept)
    pacs.gate.clear()
    early = asyncio.create_task(owned.owners(STUDY, KNOWN))
    await settle()
    kept.archive_changed(None)
    pacs.gate.set()
    await early
    await owned.owners(STUDY, KNOWN)
    assert len(pacs.asked) == 2


async def test_what_was_found_before_something_changed_is_not_kept() -> None:
    pacs = archive()
    kept = Invalidation()
    facts = ownership(pacs, invalidation=kept)
    pacs.gate.clear()
    asking = asyncio.create_task(facts.facts(Part(STUDY, SERIES), KNOWN))
    await settle()
    kept.archive_changed(None)
    pacs.gate.set()
    await asking
    asked = len(pacs.asked)
    await facts.facts(Part(STUDY, SERIES), KNOWN)
    assert len(pacs.asked) > asked


async def test_one_study_is_forgotten() -> None:
    """Its owners, series and instances, and what was not found in it; nothing of another study."""
    pacs = archive()
    kept = Invalidation()
    facts = ownership(pacs, invalidation=kept)
    parts = [
        Part(STUDY, SERIES, f"{SERIES}.1"),
        Part(STUDY, "1.5"),
        Part(FOREIGN_STUDY, FOREIGN_SERIES),
    ]
    for part in parts:
        await facts.facts(part, KNOWN)
    stranger = frozenset({OTHER})
    await facts.owners(STUDY, stranger)
    asked = len(pacs.asked)
    kept.forget_study(STUDY)
    await facts.facts(parts[2], KNOWN)
    assert len(pacs.asked) == asked
    pacs.rows = pacs.rows[3:]
    assert await facts.facts(parts[0], KNOWN) == study_facts(frozenset(), part_found=False)
    assert await facts.owners(STUDY, stranger) == frozenset()
    assert not await facts.holds(parts[0], KNOWN)
    assert not await facts.holds(parts[1], KNOWN)
    pacs.rows.append(row("p1", STUDY, "1.5"))
    assert not await facts.holds(parts[1], KNOWN)  # That it is not there is remembered.
    kept.forget_study(STUDY)
    assert await facts.holds(parts[1], KNOWN)


async def test_what_was_under_way_when_a_study_was_forgotten_is_not_remembered() -> None:
    pacs = archive()
    kept = Invalidation()
    facts = ownership(pacs, invalidation=kept)
    pacs.gate.clear()
    first = asyncio.ensure_future(facts.owners(STUDY, KNOWN))
    await settle()
    kept.forget_study(STUDY)
    pacs.gate.set()
    assert await first == frozenset({OWN})
    await facts.owners(STUDY, KNOWN)
    assert pacs.levels == ["studies", "studies"]
