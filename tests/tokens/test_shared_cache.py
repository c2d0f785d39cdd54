"""Token caches that share answers: how long each is believed, and that nothing of the shared one
is needed (SIA-10, 16).
"""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.errors import Unavailable
from sidecar.tokens.rejection import TokenRejected
from tests.common.peer import Clock
from tests.tokens.introspecting import GOOD, build, living
from tests.tokens.shared_store import ANSWER, Store, cache_at


async def test_two_processes_ask_once() -> None:
    server = living(3_600)
    store = Store(server.clock)
    seen: list[str] = []
    first = build(server, shared=cache_at(store), observe=seen.append)
    second = build(server, shared=cache_at(store), observe=seen.append)
    for cache in (first, second, first, second):
        assert await cache.validate(GOOD) == Token((), server.live[GOOD], patient="p1")
    assert len(server.asked) == 1
    assert seen == ["miss", "shared_hit", "hit", "hit"]


@pytest.mark.parametrize("delay", [0, 20, 53.9])
async def test_a_revoked_token_ends_everywhere_within_the_ttl_of_the_question(
    delay: float,
) -> None:
    """Whenever another process takes the answer over: its age goes on."""
    server = living(3_600)
    store = Store(server.clock)
    caches = [build(server, shared=cache_at(store)) for _ in range(2)]
    asked_at = server.clock.now
    assert await caches[0].validate(GOOD) is not None
    server.clock.now += delay
    assert await caches[1].validate(GOOD) is not None
    assert len(server.asked) == 1
    server.live = {}
    server.clock.now = asked_at + 60
    assert [await cache.validate(GOOD) for cache in caches] == [None, None]


async def test_one_process_asks_anew_for_all_before_the_end() -> None:
    """Copies end one after another in the last tenth, in which none is taken over any more."""
    server = living(36_000)
    store = Store(server.clock)
    caches = [build(server, shared=cache_at(store), jitter=part) for part in (1, 0.5, 0.1, 0)]
    for _ in range(2_000):
        for cache in caches:
            assert await cache.validate(GOOD) is not None
        server.clock.now += 0.3
    assert len(server.asked) == pytest.approx(600 / (60 * 0.9), abs=1.5)


async def test_exp_ends_a_shared_answer_too() -> None:
    server = living(30)
    store = Store(server.clock)
    assert await build(server, shared=cache_at(store)).validate(GOOD) is not None
    other = build(server, shared=cache_at(store))
    server.clock.now += 20
    assert await other.validate(GOOD) is not None
    server.clock.now += 10
    assert await other.validate(GOOD) is None
    assert len(server.asked) == 2


async def test_an_answer_whose_exp_is_over_by_this_clock_is_not_taken() -> None:
    server = living(30)
    store = Store(server.clock)
    await build(server, shared=cache_at(store)).validate(GOOD)
    ahead = build(server, shared=cache_at(store), wall=Clock(server.clock.now + 31))
    await ahead.validate(GOOD)
    assert len(server.asked) == 2


async def test_negative_answers_are_as_short_as_locally() -> None:
    """Counted from the question, whoever has taken it over meanwhile."""
    server = living(3_600)
    store = Store(server.clock)
    seen: list[str] = []
    caches = [build(server, shared=cache_at(store), observe=seen.append) for _ in range(2)]
    began = server.clock.now
    assert await caches[0].validate("junk") is None
    server.clock.now = began + 9
    assert await caches[1].validate("junk") is None
    assert await caches[1].validate("junk") is None
    assert seen == ["miss", "shared_negative_hit", "negative_hit"]
    server.live["junk"] = began + 3_600
    server.clock.now = began + 10
    assert [await cache.validate("junk") is None for cache in caches] == [False, False]


async def test_a_refusal_is_shared_with_its_reason() -> None:
    server = living(3_600)
    store = Store(server.clock)
    server.failing = TokenRejected(Reason.WRONG_AUDIENCE, "aud", expected="us", received="them")
    for _ in range(2):
        with pytest.raises(TokenRejected) as rejected:
            await build(server, shared=cache_at(store)).validate(GOOD)
        assert rejected.value.reason is Reason.WRONG_AUDIENCE
    assert len(server.asked) == 1


async def test_what_cannot_be_verified_is_not_shared() -> None:
    """Junk costs no question, and anybody can send it: it fills nothing."""
    server = living(3_600)
    store = Store(server.clock)
    server.failing = TokenRejected(Reason.UNVERIFIED_TOKEN)
    with pytest.raises(TokenRejected):
        await build(server, shared=cache_at(store)).validate("junk")
    assert store.entries == {}


async def test_a_revocation_that_was_seen_replaces_what_is_shared() -> None:
    server = living(3_600)
    store = Store(server.clock)
    await build(server, shared=cache_at(store)).validate(GOOD)
    server.clock.now += 55
    server.live = {}
    assert await build(server, shared=cache_at(store)).validate(GOOD) is None
    assert await build(server, shared=cache_at(store)).validate(GOOD) is None
    assert len(server.asked) == 2


async def test_an_answer_from_the_future_is_not_taken() -> None:
    server = living(3_600)
    store = Store(server.clock)
    await build(server, shared=cache_at(store)).validate(GOOD)
    await build(server, shared=cache_at(store), wall=Clock(server.clock.now - 1)).validate(GOOD)
    assert len(server.asked) == 2


async def test_a_clock_that_is_behind_lengthens_nothing() -> None:
    """The store's own time bounds an answer whose age seems less than it is."""
    server = living(3_600)
    store = Store(server.clock)
    began = server.clock.now
    await build(server, shared=cache_at(store)).validate(GOOD)
    server.clock.now += 50
    behind = build(server, shared=cache_at(store), wall=Clock(began + 5))
    assert await behind.validate(GOOD) is not None
    assert len(server.asked) == 1
    server.live = {}
    server.clock.now = began + 60
    assert await behind.validate(GOOD) is None


async def test_a_store_that_lies_about_the_time_lengthens_nothing() -> None:
    """Whoever can write there can keep entries, and put old ones back."""
    server = living(3_600)
    store = Store(server.clock)
    began = server.clock.now
    await build(server, shared=cache_at(store)).validate(GOOD)
    kept = dict(store.entries)
    server.live = {}
    for after in (50, 54, 60, 500):
        server.clock.now = began + after
        store.entries = {name: (value, began + 9_999) for name, (value, _) in kept.items()}
        late = build(server, shared=cache_at(store))
        taken = await late.validate(GOOD) is not None
        assert taken == (after == 50)
        server.clock.now = max(server.clock.now, began + 60)
        assert await late.validate(GOOD) is None


async def test_an_answer_without_an_end_is_not_taken() -> None:
    server = living(3_600)
    store = Store(server.clock)
    await build(server, shared=cache_at(store)).validate(GOOD)
    client: Any = store

    async def endless(name: str) -> tuple[bytes, float]:
        return store.entries[name][0], 0

    client.get = endless
    seen: list[str] = []
    assert await cache_at(store, seen).get(GOOD) is None
    assert seen == ["unreadable"]


async def test_one_whose_end_is_too_near_is_not_shared() -> None:
    clock, seen = Clock(), list[str]()
    await cache_at(Store(clock), seen).put(GOOD, ANSWER, 0)
    assert seen == []


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 40),
            st.sampled_from(["ask", "fail", "revoke", "flush", "replay", "store fails"]),
            st.integers(0, 2),
        ),
        max_size=20,
    ),
    lives=st.floats(1, 200),
    jitters=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_no_answer_is_older_than_allowed(
    steps: list[tuple[float, str, int]], lives: float, jitters: list[float]
) -> None:
    """SIA-10: whatever happens to the store, none of three processes takes a token beyond exp, or
    longer than the TTL after its revocation.
    """

    async def story() -> None:
        server = living(lives)
        store = Store(server.clock)
        caches = [build(server, shared=cache_at(store), jitter=one) for one in jitters]
        revoked_at, recorded = float("inf"), dict[str, tuple[bytes, float]]()
        for seconds, event, process in steps:
            server.clock.now += seconds
            recorded |= store.entries
            if event == "revoke" and server.live:
                server.live, revoked_at = {}, server.clock.now
            elif event == "flush":
                store.entries = {}
            elif event == "replay":
                store.entries = {
                    name: (value, server.clock.now + 9_999) for name, (value, _) in recorded.items()
                }
            server.failing = Unavailable("x", reason="down") if event == "fail" else None
            store.failing = OSError() if event == "store fails" else None
            try:
                token = await caches[process].validate(GOOD)
            except Unavailable:
                continue
            if token is not None:
                assert server.clock.now < token.expires_at
                assert server.clock.now < revoked_at + 60

    asyncio.run(story())
