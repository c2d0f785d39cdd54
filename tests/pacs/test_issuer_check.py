"""A number without a known issuer that stands for several people at the PACS: nothing is served
(SIA-16).
"""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.invalidation import NEGATIVE_SECONDS, Invalidation
from sidecar.pacs.issuer_check import UNIQUE_SECONDS, Issuers
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row

ALICE = frozenset({PatientIdentifier("p1")})


def issuers(
    pacs: FakePacs, clock: Clock | None = None, *, generated: tuple[str, ...] = ()
) -> Issuers:
    return Issuers(pacs, generated=generated, clock=clock or Clock(), invalidation=Invalidation())


def archive(*names: str | None) -> FakePacs:
    return FakePacs(*(row("p1", f"1.2.{number}", issuer=name) for number, name in enumerate(names)))


MADE_UP = ("DCM4CHEE.*",)
ONE, OTHER = "DCM4CHEE.1F2E3D4C.5B6A7988", "DCM4CHEE.1F2E3D4C."
ISSUERS: list[tuple[tuple[str | None, ...], tuple[str, ...], bool]] = [
    # under which issuers the archive has the number, patterns that count as none, is it one
    # person's?
    ((), (), True),
    ((None, None), (), True),
    (("A", "A"), (), True),
    (("A", None), (), False),
    (("A", "B"), (), False),
    (("A", "a"), (), False),
    ((ONE, ONE), (), True),
    ((ONE, OTHER), (), False),
    ((ONE, None), (), False),
    ((ONE, OTHER), MADE_UP, True),
    ((ONE, OTHER, None), MADE_UP, True),
    ((ONE, "A"), MADE_UP, False),
    ((None, "A"), MADE_UP, False),
    ((ONE, "dcm4chee.1.2"), MADE_UP, False),
    ((ONE, "X" + OTHER), MADE_UP, False),
    (("A", None), ("A",), True),
    (("A", "B", None), ("A",), False),
    (("A", "B", None), ("A", "B"), True),
]


@pytest.mark.parametrize(("names", "generated", "is_unique"), ISSUERS)
async def test_whether_a_number_is_one_persons(
    names: tuple[str | None, ...], generated: tuple[str, ...], is_unique: bool
) -> None:
    known = issuers(archive(*names), generated=generated)
    with (
        contextlib.nullcontext()
        if is_unique
        else pytest.raises(BadGateway, match="several_issuers")
    ):
        await known.check(ALICE)


NAMES = st.none() | st.sampled_from(["A", "B", ONE, OTHER])


@given(st.lists(NAMES, max_size=5), st.sampled_from([(), MADE_UP]))
async def test_one_person_is_one_issuer_or_none_at_all(
    names: list[str | None], generated: tuple[str, ...]
) -> None:
    """Whatever the order and the number of studies; a pattern never makes two issuers of one."""
    known = issuers(archive(*names), generated=generated)
    counted = {None if generated and name in (ONE, OTHER) else name for name in names}
    with contextlib.nullcontext() if len(counted) <= 1 else pytest.raises(BadGateway):
        await known.check(ALICE)


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
    clock.now += UNIQUE_SECONDS + 1
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


async def test_joined_issuers_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the configured patterns and a count, no number and no issuer: those are of the patient's
    name.
    """
    rows = [
        row(number, f"1.2.{number}.{issuer}", issuer=issuer)
        for number in ("p1", "p2")
        for issuer in (ONE, OTHER)
    ]
    known = issuers(FakePacs(*rows, row("p3", "1.2.3", issuer=ONE)), generated=MADE_UP)
    await known.check({PatientIdentifier("p3")})
    assert caplog.records == []
    for number in ("p1", "p2"):
        await known.check({PatientIdentifier(number)})
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert (vars(record)["issuers"], vars(record)["patterns"]) == (2, ["DCM4CHEE.*"])
    assert not {"p1", "p2", ONE, OTHER} & set(str(vars(record)).replace("'", " ").split())


async def test_issuers_that_count_anyway_are_not_logged_as_joined(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One issuer, or a refusal: nothing was joined."""
    await issuers(archive("A", "A"), generated=MADE_UP).check(ALICE)
    with pytest.raises(BadGateway):
        await issuers(archive(ONE, "A"), generated=MADE_UP).check(ALICE)
    assert [vars(one)["reason"] for one in caplog.records] == ["several_issuers"]
