"""Whose study, and is the part in it? Established by rows that say so themselves (SIA-42; attack
"Hierarchy").
"""

import asyncio
from collections.abc import Sized
from typing import Any

import pytest

from sidecar.access.facts import Part, PatientIdentifier
from sidecar.common.errors import Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.upstream_errors import UnknownTexts
from sidecar.pacs.ownership import INDEXED_INSTANCES, UNNAMED_SECONDS, Ownership
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row, settle
from tests.permits import study_facts

OWN, OTHER = PatientIdentifier("p1"), PatientIdentifier("p2")
KNOWN = frozenset({OWN, OTHER, PatientIdentifier("p3")})
"""Whoever asks here is known by all of these, unless the test is about that."""
STUDY, SERIES = "1.2", "1.2.1"
FOREIGN_STUDY, FOREIGN_SERIES = "1.9", "1.9.1"


def archive(*, filters: bool = True, instances: int = 3) -> FakePacs:
    """Two studies of two patients, each with one series; the rows have the UIDs of all levels."""
    return FakePacs(
        *(row("p1", STUDY, SERIES, f"{SERIES}.{number}") for number in range(instances)),
        *(
            row("p2", FOREIGN_STUDY, FOREIGN_SERIES, f"{FOREIGN_SERIES}.{number}")
            for number in range(instances)
        ),
        filters=filters,
    )


def ownership(
    pacs: FakePacs,
    clock: Clock | None = None,
    invalidation: Invalidation | None = None,
    **more: Any,
) -> Ownership:
    """With the product's times and few entries, or others."""
    given: dict[str, Any] = {"ttl_seconds": 300.0, "absent_seconds": 5.0, "max_entries": 100} | more
    return Ownership(
        pacs, clock=clock or Clock(), invalidation=invalidation or Invalidation(), **given
    )


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
    part, found = PARTS[what]
    facts = ownership(archive(filters=filters))
    if warm:
        for other, _ in PARTS.values():
            await facts.facts(other, KNOWN)
    assert await facts.facts(part, KNOWN) == study_facts(frozenset({OWN}), part_found=found)


async def test_a_foreign_study_has_its_own_owner() -> None:
    found = await ownership(archive()).facts(Part(FOREIGN_STUDY, FOREIGN_SERIES), KNOWN)
    assert found == study_facts(frozenset({OTHER}), part_found=True)


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


@pytest.mark.parametrize(
    ("patient", "issuer", "expected"),
    [
        ("p1", None, OWN),
        (" p1 ", " ", OWN),
        ("p1", "A", PatientIdentifier("p1", "A")),
        (7, None, PatientIdentifier("7")),
        (None, None, PatientIdentifier("")),
        ("", "A", PatientIdentifier("", "A")),
        ({"x": 1}, ["A"], PatientIdentifier("")),
        (True, None, PatientIdentifier("")),
    ],
)
def test_the_owner_of_a_row(patient: object, issuer: object, expected: PatientIdentifier) -> None:
    """Padding does not count; a row that names nobody is nobody's."""
    found = owner_of(
        {"00100020": {"vr": "LO", "Value": [patient]}, "00100021": {"vr": "LO", "Value": [issuer]}}
    )
    assert found == expected
    assert found.is_of(OWN) is (expected.patient_id == "p1")


@pytest.mark.parametrize("keyword", ["00100020", "00100021"])
@pytest.mark.parametrize("values", [["p1", "p2"], ["p1", "p1"], ["", "p1"]])
def test_a_row_with_several_values_is_nobodys(keyword: str, values: list[str]) -> None:
    """Which of them is it? When in doubt, refuse."""
    row = {"00100020": {"vr": "LO", "Value": ["p1"]}, "00100021": {"vr": "LO", "Value": ["p1"]}}
    assert owner_of(row | {keyword: {"vr": "LO", "Value": values}}) == PatientIdentifier("")


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
    one, other = frozenset({OWN}), frozenset({OTHER})
    await owned.facts(Part(STUDY, SERIES), one)
    await owned.facts(Part(FOREIGN_STUDY, FOREIGN_SERIES), other)
    kept.archive_changed({"p1"})
    asked = len(pacs.asked)
    await owned.facts(Part(FOREIGN_STUDY, FOREIGN_SERIES), other)
    assert pacs.levels[asked:] == ["studies"]
    await owned.facts(Part(STUDY, SERIES), one)
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


@pytest.mark.parametrize(
    ("said", "issuer"),
    [("p1\ufffd", None), ("p1\x85", None), ("\x1b$Bp1", None), ("p1", "A\ufffd"), ("p1", "\x1b")],
)
def test_a_text_that_may_have_lost_characters_is_nobodys(said: str, issuer: str | None) -> None:
    assert owner_of(row(said, STUDY, issuer=issuer)) == PatientIdentifier("")


@pytest.mark.parametrize(
    ("named", "owner"), [("ISO_IR 100", "p1"), ("ISO_IR 192", "p1"), ("ISO_IR 999", "")]
)
def test_a_row_in_a_character_set_that_nobody_knows_is_nobodys(named: str, owner: str) -> None:
    assert owner_of(row("p1", STUDY, SpecificCharacterSet=named)) == PatientIdentifier(owner)


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
