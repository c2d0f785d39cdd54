"""A number without a known issuer that stands for several people at the PACS: nothing is served (SIA-16)."""

import pytest

from sidecar.access.identity import PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.invalidation import NEGATIVE_SECONDS
from sidecar.pacs.issuers import Issuers
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row

ALICE = frozenset({PatientIdentifier("p1")})


def issuers(pacs: FakePacs, clock: Clock | None = None) -> Issuers:
    return Issuers(pacs, ttl_seconds=300, clock=clock or Clock())


def archive(*names: str | None) -> FakePacs:
    return FakePacs(*(row("p1", f"1.2.{number}", issuer=name) for number, name in enumerate(names)))


@pytest.mark.parametrize("names", [(), (None, None), ("A", "A"), ("A", None)])
async def test_one_issuer_at_most_is_one_person(names: tuple[str | None, ...]) -> None:
    await issuers(archive(*names)).check(ALICE)


async def test_two_issuers_are_two_people(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadGateway) as refused:
        await issuers(archive("A", "B")).check(ALICE)
    assert refused.value.reason == "several_issuers"
    assert "set the issuer" in caplog.text
    assert "p1" not in caplog.text


async def test_a_number_with_an_issuer_is_not_asked_for() -> None:
    pacs = archive("A", "B")
    await issuers(pacs).check({PatientIdentifier("p1", "A")})
    assert pacs.asked == []


async def test_what_the_pacs_said_is_kept_for_its_time() -> None:
    pacs, clock = archive("A"), Clock()
    known = issuers(pacs, clock)
    for _ in range(3):
        await known.check(ALICE)
    assert len(pacs.asked) == 1
    pacs.rows = archive("A", "B").rows
    clock.now += 301
    for _ in range(2):
        with pytest.raises(BadGateway):
            await known.check(ALICE)
    assert len(pacs.asked) == 2
    pacs.rows = archive("A").rows
    clock.now += NEGATIVE_SECONDS  # What was mended is served soon.
    await known.check(ALICE)


async def test_a_pacs_that_does_not_answer_is_no_permission() -> None:
    pacs = archive("A")
    pacs.failure = Unavailable("x", reason="x")
    with pytest.raises(Unavailable):
        await issuers(pacs).check(ALICE)
