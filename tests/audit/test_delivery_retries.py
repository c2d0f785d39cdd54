"""Events that fail while others are taken hold nobody up, and are not lost with the process
(SIA-60).
"""

import json
import random
from pathlib import Path

import pytest
from aiohttp import web

from sidecar.audit import delivery as module
from sidecar.audit.spool import progress, segments
from tests.audit.deliveries import line_to, numbers, out_of_order, rejected, size_of, soon
from tests.audit.fhir_repository import FhirRepository
from tests.waiting import forever, wait_until_async

__all__ = ["soon"]


async def test_few_that_fail_do_not_slow_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pause for everybody: who can make events that the server fails with must not fill the
    spool.
    """
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 30)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 60)
    monkeypatch.setattr(module, "_RETRY_PAUSE_SECONDS", 60)
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] % 100 == 7 else 201
    async with line_to(tmp_path, repository) as line:
        line.tell(range(5_000))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 4_950
        )
        await wait_until_async(
            "audit_queue_bytes",
            lambda: line.value("audit_queue_bytes"),
            float(size_of(range(7, 5_000, 100))).__eq__,
        )
        assert len(segments(tmp_path)) <= 1
    assert numbers(repository) == [number for number in range(5_000) if number % 100 != 7]


@pytest.mark.exhaustive
async def test_one_that_fails_outlives_a_reload_and_nothing_is_told_twice(tmp_path: Path) -> None:
    """However often: a token that rotates reloads each few minutes."""
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] == 0 else 201
    number = generations = 0
    told_of = 0.0
    while generations < 20 or told_of == 0:  # It is tried 20 times, by all of them together.
        generations += 1
        assert generations < 1_000
        async with line_to(tmp_path, repository) as line:
            for _ in range(6):
                line.tell(range(number, number + 5))
                number += 5
                due = list(range(1, number))
                await wait_until_async("all but the first", lambda: numbers(repository), due.__eq__)
            line.delivery.hand_over()
        # Its last request has ended: nothing is counted any more.
        told_of += line.outcome("rejected")
    assert numbers(repository) == list(range(1, number))
    assert (rejected(tmp_path), told_of) == ([0], 1)


async def test_it_is_told_when_the_server_can(tmp_path: Path) -> None:
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] == 2 else 201
    async with line_to(tmp_path, repository, update=True) as line:
        line.tell(range(5))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 4
        )
    assert len(repository.ids) == 4
    repository.of_event = lambda event: 201
    async with line_to(tmp_path, repository, update=True) as line:
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 1
        )
        await wait_until_async(
            "audit_queue_bytes", lambda: line.value("audit_queue_bytes"), lambda found: found == 0
        )
    assert numbers(repository) == [0, 1, 3, 4, 2]
    assert len(set(repository.ids)) == 5  # Under the id that it always had.
    assert progress(tmp_path) == ({}, [])


@pytest.mark.parametrize("batch", [1, 10])
@pytest.mark.parametrize("how", ["fails whole requests", "is silent"])
async def test_one_that_spoils_every_request_it_is_in(tmp_path: Path, batch: int, how: str) -> None:
    """The requests get smaller until it is alone; another one shows that it is not the server."""
    repository = FhirRepository()
    handle = repository.handle

    async def spoilt(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        events = [one["resource"] for one in body["entry"]] if "entry" in body else [body]
        if any(event["number"] in (3, 4) for event in events):
            if how == "is silent":
                await forever()
            return web.Response(status=500)
        return await handle(request)

    repository.handle = spoilt  # type: ignore[method-assign]
    async with line_to(tmp_path, repository, batch=batch, update=True, timeout_seconds=0.5) as line:
        line.tell(range(40))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 38
        )
    assert sorted(numbers(repository)) == [one for one in range(40) if one not in (3, 4)]
    assert out_of_order(numbers(repository)) <= 3


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("retry_after", [None, "1"])
async def test_many_in_a_row_hold_nobody_up_for_ever(
    tmp_path: Path, batch: int, retry_after: str | None
) -> None:
    """However many stand before the first that is taken: one is looked for ever farther behind
    them.
    """
    repository = FhirRepository()
    handle = repository.handle

    async def spoilt(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        events = [one["resource"] for one in body["entry"]] if "entry" in body else [body]
        if any(event["number"] < 40 for event in events):
            return web.Response(
                status=503, headers={} if retry_after is None else {"Retry-After": retry_after}
            )
        return await handle(request)

    repository.handle = spoilt  # type: ignore[method-assign]
    async with line_to(tmp_path, repository, batch=batch) as line:
        line.tell(range(140))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 100
        )
    assert sorted(numbers(repository)) == list(range(40, 140))


async def test_an_outage_in_which_one_is_refused_is_no_evidence(tmp_path: Path) -> None:
    """A server that looks at events before it fails: of the others nothing is known."""
    repository = FhirRepository()
    repository.of_event = lambda event: 422 if event["number"] % 10 == 3 else 503
    async with line_to(tmp_path, repository) as line:
        line.tell(range(60))
        await wait_until_async(
            "undelivered", lambda: line.outcome("undelivered"), lambda found: found > 60
        )
        repository.of_event = lambda event: 422 if event["number"] % 10 == 3 else 201
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 54
        )
    assert all(number % 10 == 3 for number in rejected(tmp_path))
    assert sorted([*numbers(repository), *rejected(tmp_path)]) == list(range(60))


async def test_every_second_request_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers behind one address, one of them down: no pause, no smaller requests."""
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 30)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 60)
    repository = FhirRepository()
    handle, asked = repository.handle, [0]

    async def every_second(request: web.Request) -> web.Response:
        asked[0] += 1
        return web.Response(status=502) if asked[0] % 2 else await handle(request)

    repository.handle = every_second  # type: ignore[method-assign]
    async with line_to(tmp_path, repository) as line:
        line.tell(range(2_000))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 2_000
        )
    assert numbers(repository) == list(range(2_000))
    assert asked[0] < 60


async def test_an_overloaded_server_rejects_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the entries of each answer are 503, others each time: those aside are bounded, none
    is given up.
    """
    monkeypatch.setattr(module, "_MOST_RETRIES", 50)
    repository, chance = FhirRepository(), random.Random(1)
    repository.of_event = lambda event: 201 if chance.random() < 0.5 else 503
    most = 0
    async with line_to(tmp_path, repository, batch=200) as line:
        line.tell(range(200))

        def delivered() -> float:
            nonlocal most
            most = max(most, len(line.backlog.retries))
            return line.outcome("delivered")

        await wait_until_async("delivered", delivered, lambda found: found == 200)
    assert sorted(numbers(repository)) == list(range(200))
    assert rejected(tmp_path) == []
    assert most <= 51


async def test_with_nothing_else_waiting_one_that_is_aside_shows_it(tmp_path: Path) -> None:
    """A quiet night: the last event fails, and one aside, which would be taken now, must not wait
    for the morning.
    """
    repository = FhirRepository()
    failing = {0, 5}
    repository.of_event = lambda event: 500 if event["number"] in failing else 201
    async with line_to(tmp_path, repository) as line:
        line.tell(range(5))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 4
        )
        repository.status = 503  # So that what comes now is alone in its request, and fails.
        line.tell(range(5, 6))
        await wait_until_async(
            "undelivered", lambda: line.outcome("undelivered"), lambda found: found > 3
        )
        failing.remove(0)
        repository.status = None
        await wait_until_async("0 in numbers(repository)", lambda: 0 in numbers(repository))
        await wait_until_async(
            "events aside", lambda: len(line.backlog.retries), lambda found: found == 1
        )
        failing.clear()
        await wait_until_async(
            "audit_queue_bytes", lambda: line.value("audit_queue_bytes"), lambda found: found == 0
        )
    assert sorted(numbers(repository)) == list(range(6))


async def test_many_retries_of_a_slow_server_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    repository, failing = FhirRepository(), set(range(30))

    def fails_once(event: dict[str, int]) -> int:
        is_failing = event["number"] in failing
        failing.discard(event["number"])
        return 503 if is_failing else 201

    repository.of_event, repository.seconds = fails_once, 0.02
    async with line_to(tmp_path, repository, batch=40) as line:
        line.tell(range(80))
        await wait_until_async("delivered", lambda: line.outcome("delivered"), (80.0).__eq__)
    order = numbers(repository)
    assert max(map(order.index, range(40, 80))) < max(map(order.index, range(30)))


async def test_many_that_spoil_their_requests_do_not_stop_the_others(tmp_path: Path) -> None:
    repository = FhirRepository()
    handle = repository.handle

    async def spoilt(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        events = [one["resource"] for one in body["entry"]] if "entry" in body else [body]
        return (
            web.Response(status=500)
            if any(event["number"] % 50 == 9 for event in events)
            else await handle(request)
        )

    repository.handle = spoilt  # type: ignore[method-assign]
    async with line_to(tmp_path, repository) as line:
        line.tell(range(1_000))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 980
        )
        assert len(repository.requests) < 1_000
    assert sorted(numbers(repository)) == [one for one in range(1_000) if one % 50 != 9]


async def test_an_outage_told_entry_by_entry_keeps_the_order(tmp_path: Path) -> None:
    repository = FhirRepository()
    repository.of_event = lambda event: 503
    async with line_to(tmp_path, repository) as line:
        for begin in range(0, 300, 10):
            asked = len(repository.requests)
            line.tell(range(begin, begin + 10))
            await wait_until_async("a request", lambda: len(repository.requests), asked.__lt__)
        repository.recover_with(0)
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 300
        )
        assert line.outcome("rejected") == 0
    assert numbers(repository) == list(range(300))


async def test_a_server_that_stores_and_does_not_say_so_gets_few_copies(tmp_path: Path) -> None:
    """Batches are answered with nothing that can be used: what is alone is."""
    repository = FhirRepository()
    repository.mangle = lambda answer: {"resourceType": "Bundle"}
    async with line_to(tmp_path, repository, batch=32) as line:
        line.tell(range(20))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 20
        )
    assert set(numbers(repository)) == set(range(20))
    assert len(repository.events) < 150


async def test_a_limit_on_the_number_is_found_without_asking_twice_each_time(
    tmp_path: Path,
) -> None:
    repository = FhirRepository()
    repository.most = 5
    async with line_to(tmp_path, repository, batch=100) as line:
        line.tell(range(500))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 500
        )
    assert numbers(repository) == list(range(500))
    assert len(repository.requests) < 230  # Three quarters of them of some use.


async def test_what_retries_hold_of_the_disk_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment stays for one event of it: beyond so many retries the oldest are given up."""
    monkeypatch.setattr(module, "_MOST_RETRIES", 3)
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] % 10 == 3 else 201
    async with line_to(tmp_path, repository) as line:
        line.spool._segment_bytes = 900  # Ten events.
        line.tell(range(300))
        await wait_until_async("delivered", lambda: line.outcome("delivered"), (270.0).__eq__)
        await wait_until_async(
            "segments", lambda: len(segments(tmp_path)), lambda count: count <= 5
        )
    given_up = rejected(tmp_path)
    assert given_up == [number for number in range(300) if number % 10 == 3][: len(given_up)]
    assert len(given_up) >= 25
