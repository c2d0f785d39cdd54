"""The token cache: how long an answer is believed, how much is kept, and what happens at the same
time (SIA-10, 16).
"""

import asyncio
import gc
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.tokens.rejection import TokenRejected
from tests.common.peer import Clock
from tests.tokens.introspecting import GOOD, Server, build, living
from tests.waiting import wait_until_async


@pytest.mark.parametrize(
    ("lives", "ttl", "jitter", "fresh"),
    [(3_600, 60, 0, 60), (20, 60, 0, 20), (3_600, 60, 1, 54), (55, 60, 1, 54)],
)
async def test_an_active_answer_is_fresh_for_the_lesser_of_ttl_and_exp(
    lives: float, ttl: float, jitter: float, fresh: float
) -> None:
    """SIA-10: min(TTL, exp - now), less jitter; a revoked token works no longer than that."""
    server = living(lives)
    cache = build(server, ttl=ttl, jitter=jitter)
    assert await cache.validate(GOOD) is not None
    server.live = {}
    server.clock.now += fresh - 0.01
    assert await cache.validate(GOOD) is not None
    assert len(server.asked) == 1
    server.clock.now += 0.01
    assert await cache.validate(GOOD) is None
    assert len(server.asked) == 2


async def test_a_clock_that_is_put_back_keeps_no_revoked_token_alive() -> None:
    """The monotonic clock measures the age of an answer; the wall clock is for ``exp`` alone."""
    server = living(7 * 86_400)
    wall = Clock(server.clock.now)
    cache = build(server, ttl=60, wall=wall)
    assert await cache.validate(GOOD) is not None
    assert await cache.validate("junk") is None
    wall.now -= 86_400
    server.live = {"junk": server.clock.now + 3_600}
    server.clock.now += 60
    assert await cache.validate(GOOD) is None
    assert await cache.validate("junk") is not None


async def test_a_clock_that_is_put_forward_ends_what_has_expired_by_it() -> None:
    """Whichever of both clocks comes first: ``exp`` is a time of the day."""
    server = living(3_600)
    wall = Clock(server.clock.now)
    cache = build(server, ttl=600, wall=wall)
    await cache.validate(GOOD)
    wall.now += 3_600
    server.failing = Unavailable("x", reason="down")
    with pytest.raises(Unavailable):
        await cache.validate(GOOD)


async def test_a_lifetime_counts_from_the_question() -> None:
    """The answer may be as old as that: a slow server does not lengthen the revocation bound."""
    server = living(3_600)
    server.takes_seconds = 50
    cache = build(server, ttl=60)
    await cache.validate(GOOD)
    server.clock.now += 9
    await cache.validate(GOOD)
    assert len(server.asked) == 1
    server.clock.now += 1
    await cache.validate(GOOD)
    assert len(server.asked) == 2


async def test_an_inactive_answer_is_kept_briefly() -> None:
    """A client that repeats a bad token costs one question in ``negative_ttl_seconds``."""
    server = living(3_600)
    cache = build(server, negative=10)
    for _ in range(5):
        assert await cache.validate("junk") is None
    assert server.asked == ["junk"]
    server.live["junk"] = server.clock.now + 3_600
    server.clock.now += 9.9
    assert await cache.validate("junk") is None
    server.clock.now += 0.1
    assert await cache.validate("junk") is not None


async def test_a_rejected_token_is_remembered_with_its_reason() -> None:
    """As one that is not active: one question in ``negative_ttl_seconds``, and it ends what was
    good before.
    """
    server = living(3_600)
    seen: list[str] = []
    cache = build(server, ttl=60, negative=10, observe=seen.append)
    assert await cache.validate(GOOD) is not None
    server.clock.now += 60
    server.failing = TokenRejected(Reason.WRONG_AUDIENCE, "aud", expected="us", received="them")
    for _ in range(3):
        with pytest.raises(TokenRejected) as rejected:
            await cache.validate(GOOD)
        assert rejected.value.reason is Reason.WRONG_AUDIENCE
    assert seen == ["miss", "miss", "negative_hit", "negative_hit"]
    server.failing = Unavailable("x", reason="down")
    server.clock.now += 10
    with pytest.raises(Unavailable):
        await cache.validate(GOOD)
    server.failing = None
    assert await cache.validate(GOOD) is not None


async def test_answers_are_not_mixed_up() -> None:
    """Each token has its own."""
    clock = Clock()
    server = Server(clock, {f"t{number}": clock.now + 100 + number for number in range(50)})
    cache = build(server)
    for _ in range(2):
        found = await asyncio.gather(*(cache.validate(f"t{number}") for number in range(60)))
        assert [token and token.expires_at for token in found] == [*server.live.values()] + [
            None
        ] * 10


async def test_junk_does_not_push_out_a_good_token() -> None:
    """Both tables are bounded, and are two."""
    server = living(3_600)
    cache = build(server, entries=10)
    await cache.validate(GOOD)
    for number in range(1_000):
        assert await cache.validate(f"junk{number}") is None
    assert len(cache._answers._negative.entries) <= 10
    assert await cache.validate(GOOD) is not None
    assert server.asked.count(GOOD) == 1


async def test_good_tokens_are_bounded_too() -> None:
    """The least recently used one goes, and is asked for again."""
    clock = Clock()
    server = Server(clock, {f"t{number}": clock.now + 3_600 for number in range(100)})
    cache = build(server, entries=10)
    for token in server.live:
        assert await cache.validate(token) is not None
    assert len(cache._answers) == 10
    assert await cache.validate("t0") is not None
    assert server.asked.count("t0") == 2


async def test_no_token_is_kept() -> None:
    """Keys are digests; nowhere in the tables is a token, in text or bytes, after the answer."""
    server = living(3_600)
    cache = build(server)
    await cache.validate(GOOD)
    await cache.validate(GOOD + "-bad")
    await asyncio.sleep(0)
    keys = [*cache._answers._positive.entries, *cache._answers._negative.entries]
    assert [len(key) for key in keys] == [32, 32]
    seen: dict[int, object] = {}
    pending: list[object] = [cache._answers]
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, type | types.FunctionType | types.ModuleType):
            continue
        seen[id(thing)] = thing
        assert not (isinstance(thing, str) and GOOD in thing)
        assert not (isinstance(thing, bytes) and GOOD.encode() in thing)
        pending += gc.get_referents(thing)
    assert set(keys) <= {thing for thing in seen.values() if isinstance(thing, bytes)}


@pytest.mark.parametrize("token", [GOOD, "junk"])
async def test_1000_simultaneous_requests_cause_one_introspection(token: str) -> None:
    """SIA-23's spirit: a viewer that opens a thousand instances at once costs one question."""
    server = living(3_600)
    server.go_on = asyncio.Event()
    cache = build(server)
    waiting = [asyncio.create_task(cache.validate(token)) for _ in range(1_000)]
    await wait_until_async("the question", lambda: server.asked)
    server.go_on.set()
    found = await asyncio.gather(*waiting)
    assert {answer is not None for answer in found} == {token == GOOD}
    assert len(server.asked) == 1
    await cache.validate(token)
    assert len(server.asked) == 1


async def test_a_cancelled_waiter_does_not_cancel_the_others() -> None:
    """The client for which the question was asked hangs up."""
    server = living(3_600)
    server.go_on = asyncio.Event()
    cache = build(server)
    waiting = [asyncio.create_task(cache.validate(GOOD)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    server.go_on.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [isinstance(answer, Token) for answer in found[1:]] == [True] * 4
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "failure", [Unavailable("x", reason="down"), BadGateway("x", reason="refused")]
)
async def test_a_failure_is_not_kept(failure: Exception) -> None:
    """SIA-16: it is raised, asked again, and never an answer."""
    server = living(3_600)
    server.failing = failure
    cache = build(server)
    for _ in range(2):
        with pytest.raises(type(failure)):
            await cache.validate(GOOD)
    server.failing = None
    assert await cache.validate(GOOD) is not None
    assert len(server.asked) == 3


async def test_an_old_answer_serves_nobody_in_an_outage() -> None:
    """SIA-16."""
    server = living(3_600)
    cache = build(server)
    await cache.validate(GOOD)
    server.clock.now += 60
    server.failing = Unavailable("x", reason="down")
    with pytest.raises(Unavailable):
        await cache.validate(GOOD)


async def test_a_token_that_was_said_to_be_inactive_stays_dead_in_an_outage() -> None:
    server = living(3_600)
    cache = build(server, ttl=60, negative=1)
    await cache.validate(GOOD)
    server.clock.now += 60
    server.live = {}
    assert await cache.validate(GOOD) is None
    server.clock.now += 1
    server.failing = Unavailable("x", reason="down")
    with pytest.raises(Unavailable):
        await cache.validate(GOOD)


async def test_what_is_observed() -> None:
    """The metric's labels."""
    server = living(3_600)
    seen: list[str] = []
    cache = build(server, observe=seen.append)
    for token in (GOOD, GOOD, "junk", "junk"):
        await cache.validate(token)
    assert seen == ["miss", "hit", "miss", "negative_hit"]


async def test_closing_ends_what_is_under_way() -> None:
    """No question outlives the server."""
    server = living(3_600)
    server.go_on = asyncio.Event()
    cache = build(server)
    waiting = asyncio.create_task(cache.validate(GOOD))
    await asyncio.sleep(0)
    await cache.close()
    assert len(cache._answers._flight) == 0
    with pytest.raises(asyncio.CancelledError):
        await waiting


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 40), st.sampled_from(["ask", "fail", "revoke"])), max_size=15
    ),
    lives=st.floats(1, 200),
    jitter=st.floats(0, 1),
)
def test_no_answer_is_older_than_allowed(
    steps: list[tuple[float, str]], lives: float, jitter: float
) -> None:
    """SIA-10: in any order of events none is served beyond exp, or longer than the TTL after
    revocation.
    """

    async def story() -> None:
        server = living(lives)
        cache = build(server, ttl=60, jitter=jitter)
        revoked_at = float("inf")
        for seconds, event in steps:
            server.clock.now += seconds
            if event == "revoke" and server.live:
                server.live, revoked_at = {}, server.clock.now
            server.failing = Unavailable("x", reason="down") if event == "fail" else None
            try:
                token = await cache.validate(GOOD)
            except Unavailable:
                continue
            if token is not None:
                assert server.clock.now < token.expires_at
                assert server.clock.now < revoked_at + 60

    asyncio.run(story())
