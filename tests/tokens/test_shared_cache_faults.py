"""A shared token cache that fails, lies or is full: tokens are validated without it."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from sidecar.access.facts import Token
from sidecar.access.scopes import parse_scopes
from sidecar.common.errors import Unavailable
from sidecar.tokens import shared_cache as module
from sidecar.tokens.redis_client import LIMIT_BYTES
from sidecar.tokens.shared_answers import AnswerSeal, FoundAnswer
from tests.common.peer import Clock
from tests.tokens.introspecting import GOOD, Server, build, living
from tests.tokens.shared_store import ANSWER, SEAL, Store, cache_at
from tests.waiting import wait_until_async


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
