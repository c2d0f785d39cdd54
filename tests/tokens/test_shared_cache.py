"""Token caches that share answers: how long each is believed, and that nothing of the shared one
is needed (SIA-10, 16).
"""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.access.scopes import parse_scopes
from sidecar.common.errors import Unavailable
from sidecar.tokens import shared_cache as module
from sidecar.tokens.redis_client import LIMIT_BYTES
from sidecar.tokens.rejection import TokenRejected
from sidecar.tokens.shared_answers import AnswerSeal, FoundAnswer, SharedAnswer
from sidecar.tokens.shared_cache import SharedTokenCache
from tests.common.peer import Clock
from tests.tokens.introspecting import GOOD, Server, build, living
from tests.waiting import wait_until_async

SEAL = AnswerSeal(b"k" * 64, b"scope")
ANSWER = SharedAnswer(Token((), 2_000_000, patient="p1"), None, 1_000_000)


@dataclass
class Store:
    """Stands for the server: ``entries`` with their ends; raises ``failing`` when it is set."""

    clock: Clock
    entries: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    failing: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def get(self, name: str) -> tuple[bytes, float] | None:
        """Return a value and what is left of it."""
        self.asked.append("get")
        if self.failing is not None:
            raise self.failing
        value, until = self.entries.get(name, (b"", 0))
        return (value, until - self.clock.now) if until > self.clock.now else None

    async def put(self, name: str, value: bytes, seconds: float) -> bool:
        """Store."""
        self.asked.append("put")
        if self.failing is not None:
            raise self.failing
        self.entries[name] = value, self.clock.now + seconds
        return seconds > 0

    async def close(self) -> None:
        """Close."""
        if self.failing is not None:
            raise self.failing


def cache_at(store: Store, seen: list[str] | None = None) -> SharedTokenCache:
    """Return a process's way to the store."""
    client: Any = store
    return SharedTokenCache(
        client,
        SEAL,
        observe=(seen if seen is not None else []).append,
        monotonic=store.clock,
    )


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


@pytest.mark.parametrize("spoil", ["truncated", "swapped", "garbage", "old", "empty"])
async def test_what_is_not_ours_is_a_miss(spoil: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    server = Server(clock, {GOOD: clock.now + 3_600, "other": clock.now + 3_600})
    store = Store(clock)
    writing = build(server, shared=cache_at(store))
    await writing.validate(GOOD)
    await writing.validate("other")
    (one, entry), (other, other_entry) = store.entries.items()
    sealed = AnswerSeal(b"k" * 64, b"an older version").seal(one.rpartition(":")[2], ANSWER)
    spoilt = {
        "truncated": entry[0][:-1],
        "swapped": other_entry[0],
        "garbage": b"\x80\x04pickle",
        "old": sealed,
        "empty": b"{}",
    }
    store.entries = {one: (spoilt[spoil], entry[1]), other: (entry[0], entry[1])}
    server.live = {}
    seen: list[str] = []
    with caplog.at_level(logging.WARNING):
        reading = build(server, shared=cache_at(store, seen))
        assert await reading.validate(GOOD) is None
        assert await reading.validate("other") is None
    assert seen == ["unreadable", "stored"] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "an entry of the shared token cache is not ours"
    ]
    assert vars(caplog.records[0])["reason"] == "unreadable"
    assert GOOD not in caplog.text


@pytest.mark.parametrize(
    "failure", [OSError("secret"), TimeoutError(), ValueError("secret"), RecursionError()]
)
async def test_a_failing_store_is_left_alone_and_logged_once_a_minute(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    server = Server(clock, {f"t{number}": clock.now + 3_600 for number in range(50)})
    store, seen = Store(clock, failing=failure), list[str]()
    cache = build(server, shared=cache_at(store, seen))
    with caplog.at_level(logging.WARNING):
        for token in server.live:
            assert await cache.validate(token) is not None
    assert len(store.asked) == module.FAILURES
    assert seen == ["unavailable"] * module.FAILURES + ["circuit_open"] * (100 - module.FAILURES)
    assert len(caplog.records) == 1
    assert vars(caplog.records[0])["reason"] == type(failure).__name__
    assert "secret" not in caplog.text
    clock.now += module.OPEN_SECONDS
    store.failing = None
    assert await cache.validate("unknown") is None
    assert seen[-2:] == ["miss", "stored"]
    store.failing = failure
    await cache.close()
    await cache_at(store).close()


async def test_failures_count_while_they_are_in_a_row() -> None:
    clock, seen = Clock(), list[str]()
    store = Store(clock)
    cache = cache_at(store, seen)
    for _ in range(module.FAILURES):
        for store.failing in (*[OSError()] * (module.FAILURES - 1), None):
            assert await cache.get(GOOD) is None
    assert "circuit_open" not in seen


async def test_outcomes_are_counted() -> None:
    clock, seen = Clock(), list[str]()
    cache = cache_at(Store(clock), seen)
    assert await cache.get(GOOD) is None
    await cache.put(GOOD, ANSWER, 60)
    assert await cache.get(GOOD) == FoundAnswer(ANSWER, 60)
    assert seen == ["miss", "stored", "hit"]


async def test_connections_are_closed() -> None:
    closed: list[bool] = []
    client: Any = Store(Clock())

    async def close() -> None:
        closed.append(True)

    client.close = close
    await cache_at(client).close()
    assert closed


async def test_a_flood_is_not_taken_for_a_failure() -> None:
    """What would wait for long is asked elsewhere, and the rest goes on."""
    clock, seen = Clock(), list[str]()
    store, go_on = Store(clock), asyncio.Event()
    client: Any = store

    async def slow(name: str) -> None:
        await go_on.wait()

    client.get = slow
    cache = cache_at(store, seen)
    asked = [asyncio.create_task(cache.get(f"t{number}")) for number in range(module.AT_ONCE + 36)]
    await wait_until_async("the flood", lambda: seen.count("busy") == 36)
    go_on.set()
    assert set(await asyncio.gather(*asked)) == {None}
    await cache.get("another")
    assert seen == ["busy"] * 36 + ["miss"] * (module.AT_ONCE + 1)


async def test_a_failing_introspection_is_not_shared() -> None:
    """SIA-16: a failure is an answer to nobody."""
    server = living(3_600)
    store = Store(server.clock)
    server.failing = Unavailable("x", reason="down")
    with pytest.raises(Unavailable):
        await build(server, shared=cache_at(store)).validate(GOOD)
    assert store.entries == {}


async def test_an_outage_of_the_server_is_not_bridged_by_an_old_shared_answer() -> None:
    server = living(3_600)
    store = Store(server.clock)
    await build(server, shared=cache_at(store)).validate(GOOD)
    server.clock.now += 60
    server.failing = Unavailable("x", reason="down")
    with pytest.raises(Unavailable):
        await build(server, shared=cache_at(store)).validate(GOOD)


async def test_1000_simultaneous_requests_of_a_process_ask_the_store_once() -> None:
    server = living(3_600)
    store = Store(server.clock)
    seen: list[str] = []
    await build(server, shared=cache_at(store)).validate(GOOD)
    cache = build(server, shared=cache_at(store), observe=seen.append)
    store.asked.clear()
    assert all(await asyncio.gather(*(cache.validate(GOOD) for _ in range(1_000))))
    assert (store.asked, len(server.asked)) == (["get"], 1)
    assert set(seen) == {"shared_hit"}


async def test_an_answer_that_is_too_long_is_not_shared() -> None:
    clock, seen = Clock(), list[str]()
    store = Store(clock)
    scopes = " ".join(f"patient/ImagingStudy.rs?a={number:0500}" for number in range(40))
    token = Token(parse_scopes(scopes), clock.now + 99)
    await cache_at(store, seen).put(GOOD, replace(ANSWER, token=token), 60)
    assert (store.entries, seen) == ({}, ["too_long"])
    assert len(SEAL.seal("name", ANSWER)) < LIMIT_BYTES / 50


async def test_one_whose_end_is_too_near_is_not_shared() -> None:
    clock, seen = Clock(), list[str]()
    await cache_at(Store(clock), seen).put(GOOD, ANSWER, 0)
    assert seen == []


async def test_a_probe_shows_what_is_wrong() -> None:
    clock = Clock()
    store = Store(clock)
    await cache_at(store).probe()
    store.failing = OSError("no")
    with pytest.raises(OSError, match="no"):
        await cache_at(store).probe()
    store.failing = None
    client: Any = store

    async def nothing(name: str) -> None:
        return None

    async def another(name: str) -> tuple[bytes, float]:
        return SEAL.seal(name.removeprefix(module.PREFIX), ANSWER), 1

    for client.get in (nothing, another):
        with pytest.raises(ValueError, match=r"^it does not return what was stored$"):
            await cache_at(store).probe()


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
