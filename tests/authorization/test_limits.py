"""Requests over the limits wait for their turn; a full queue is a 429, all queues full or a long
wait a 503.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import aiohttp
import pytest

from sidecar.access.facts import Part, Token
from sidecar.authorization import limits
from sidecar.authorization.limits import QueryLimits, RequestLimits, caller_of
from sidecar.common.errors import Problem
from sidecar.common.fair_queue import FairQueue, Key
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.settings.limits import LimitSettings
from tests.authorization.limited import Slow, apps, bearer, remembering
from tests.durations import durations_of_a_request
from tests.fair_queues import held_count, is_empty, waiting_count
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import PATH
from tests.fakes.site import HEADERS, sidecar_between
from tests.waiting import wait_until_async


@contextlib.asynccontextmanager
async def downloads(url: str, count: int) -> AsyncIterator[list[aiohttp.ClientResponse]]:
    """Begin that many at once, and keep them."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession(headers=HEADERS))
        yield [await stack.enter_async_context(client.get(url + PATH)) for _ in range(count)]


@pytest.mark.parametrize(
    ("token", "patient", "app"),
    [
        (Token((), 0, patient="p1", client_id="a", subject="u"), ("patient", "p1"), ("a", "u")),
        (Token((), 0, patient="p1", client_id="b"), ("patient", "p1"), ("b", None)),
        # Without a patient in context it is the client, however many patients it asks for.
        (Token((), 0, client_id="a", subject="u"), ("client", "a", "u"), ("a", "u")),
    ],
)
def test_all_apps_of_a_patient_are_one_caller(token: Token, patient: object, app: object) -> None:
    assert caller_of(token) == (patient, app)


STUDY, SERIES, INSTANCE = Part("1"), Part("1", "2"), Part("1", "2", "3")


@pytest.mark.parametrize(
    ("retrieval", "at_once"),
    [
        (Retrieval(Kind.STUDY, STUDY), 2),
        (Retrieval(Kind.SERIES, SERIES), 2),
        (Retrieval(Kind.RENDERED, SERIES), 2),
        (Retrieval(Kind.PIXELDATA, STUDY), 2),
        (Retrieval(Kind.METADATA, STUDY), 4),
        (Retrieval(Kind.THUMBNAIL, SERIES), 4),
        (Retrieval(Kind.INSTANCE, INSTANCE), 4),
        (Retrieval(Kind.FRAMES, INSTANCE, (1,)), 4),
        (Retrieval(Kind.RENDERED, INSTANCE), 4),
    ],
)
async def test_whole_studies_leave_places_to_what_a_viewer_shows(
    retrieval: Retrieval, at_once: int
) -> None:
    token = Token((), 0, patient="p1", client_id="a")
    places = RequestLimits(transfers=16, transfers_of_app=4, connections=100)
    held: list[object] = []

    async def hold() -> None:
        async with places.transfer(token, retrieval) as places_held:
            held.append(places_held)
            await asyncio.Event().wait()

    asking = [asyncio.create_task(hold()) for _ in range(6)]
    await wait_until_async("the places", lambda: held, lambda held: len(held) >= at_once)
    assert len(held) == at_once
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert is_empty(places.transfers)
    assert is_empty(places.whole_transfers)


@pytest.mark.parametrize(
    ("runs", "waits"),
    [
        (Retrieval(Kind.STUDY, STUDY), Retrieval(Kind.STUDY, STUDY)),
        (Retrieval(Kind.INSTANCE, INSTANCE), Retrieval(Kind.STUDY, STUDY)),
        (Retrieval(Kind.STUDY, STUDY), Retrieval(Kind.METADATA, STUDY)),
    ],
)
async def test_a_place_of_either_queue_is_wanted(runs: Retrieval, waits: Retrieval) -> None:
    """A whole study holds two places: whoever waits for either could go on."""
    places = RequestLimits(transfers=1, transfers_of_app=1, connections=100)
    one, other = (
        Token((), 0, patient="p1", client_id="a"),
        Token((), 0, patient="p2", client_id="a"),
    )
    async with places.transfer(one, runs) as held:
        assert not held.is_wanted()
        waiting = asyncio.create_task(places.transfer(other, waits).__aenter__())
        await wait_until_async(
            "a waiting one",
            lambda: waiting_count(places.transfers) + waiting_count(places.whole_transfers),
        )
        assert held.is_wanted()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("retrievals", "share"), [(16, 4), (8, 1)], ids=["of one app", "of one patient"]
)
async def test_one_more_waits_for_its_turn_and_is_served(
    retrievals: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app has two whole studies at once; the third one is no 429."""
    made: list[RequestLimits] = []
    monkeypatch.setattr("sidecar.bootstrap.build.RequestLimits", remembering(made))
    monkeypatch.setattr("sidecar.bootstrap.build.APP_SHARE", share)
    slow, changes = Slow(asyncio.Event()), {"limits": {"retrievals": retrievals}}
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(slow, instances=1), **changes) as (url, _),
        downloads(url, 2) as running,
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        assert [one.status for one in running] == [200, 200]
        third = asyncio.create_task(client.get(url + PATH))
        await wait_until_async(
            "the third one", lambda: waiting_count(made[0].whole_transfers), lambda seen: seen == 1
        )
        # Searches go on.
        async with client.get(url + "/fhir/ImagingStudy") as search:
            assert search.status == 200
        assert slow.begun == 2
        slow.done.set()
        for one in running:
            await one.read()
        async with await third as served:
            assert served.status == 200
            await served.read()


@pytest.mark.parametrize(
    ("waiting", "others_app", "status", "reason"),
    [
        ((9, 9, 1), "app", 429, "too_many_streams_of_client"),
        ((9, 1, 9), "other", 429, "too_many_streams_of_patient"),
        ((1, 9, 9), "other", 503, "too_many_streams"),
    ],
)
async def test_a_full_queue_is_refused(
    waiting: tuple[int, ...],
    others_app: str,
    status: int,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "most_waiting", lambda connections: waiting)
    caplog.set_level(logging.INFO, "sidecar.request")
    slow = Slow(asyncio.Event())
    async with (
        sidecar_between(apps(), ScriptedPacs(slow, instances=1), limits={"retrievals": 1}) as (
            url,
            _,
        ),
        aiohttp.ClientSession() as client,
        client.get(url + PATH, headers=bearer("app")) as running,
    ):
        asking = [
            asyncio.create_task(client.get(url + PATH, headers=bearer(app)))
            for app in ("app", others_app)
        ]
        done, left = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        async with done.pop().result() as refused:
            assert refused.status == status
            assert int(refused.headers["Retry-After"]) > 0
            assert (await refused.json(content_type=None))["resourceType"] == "OperationOutcome"
        assert reason in [getattr(record, "reason", None) for record in caplog.records]
        slow.done.set()
        await running.read()
        async with await left.pop() as served:
            assert served.status == 200


async def test_a_long_wait_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAIT_SECONDS", 0.1)
    slow = Slow(asyncio.Event())
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(slow), limits={"retrievals": 1}) as (url, _),
        downloads(url, 1),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + PATH) as refused,
    ):
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        slow.done.set()


async def test_a_client_that_leaves_frees_its_entry_in_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "most_waiting", lambda connections: (1, 1, 1))
    made: list[RequestLimits] = []
    monkeypatch.setattr("sidecar.bootstrap.build.RequestLimits", remembering(made))
    slow = Slow(asyncio.Event())
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(slow), limits={"retrievals": 1}) as (url, _),
        downloads(url, 1),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        queue = made[0].whole_transfers
        leaves = asyncio.create_task(client.get(url + PATH))
        await wait_until_async("an entry", lambda: waiting_count(queue), lambda seen: seen == 1)
        leaves.cancel()
        await wait_until_async("none", lambda: waiting_count(queue), lambda seen: seen == 0)
        slow.done.set()


async def test_whoever_may_not_have_it_takes_no_place() -> None:
    """Refusals come before places are counted: junk requests cannot keep others out."""
    slow = Slow(asyncio.Event())
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(slow), limits={"retrievals": 1}) as (url, _),
        downloads(url, 1),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + "/wado-rs/studies/1.2.3") as foreign,
    ):
        assert foreign.status == 404
        slow.done.set()


def test_a_wait_and_the_patience_are_shorter_than_a_load_balancers() -> None:
    """Nginx, the AWS load balancer and others give up after 60 seconds without a byte."""
    defer_after_seconds = LimitSettings().defer_after_seconds
    assert defer_after_seconds is not None
    assert limits.WAIT_SECONDS + defer_after_seconds < 60


async def test_both_places_of_a_whole_study_are_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not for so long in each queue."""
    waits: list[float | None] = []
    enter = FairQueue.enter

    async def noted(queue: FairQueue, key: Key, seconds: float | None) -> None:
        waits.append(seconds)
        await enter(queue, key, seconds)

    monkeypatch.setattr(FairQueue, "enter", noted)
    places = RequestLimits(transfers=16, transfers_of_app=4, connections=100)
    async with places.transfer(Token((), 0, patient="p1"), Retrieval(Kind.STUDY, STUDY)):
        first, second = (seconds or 0 for seconds in waits)
    assert limits.WAIT_SECONDS >= first > second


async def test_who_gets_one_of_two_places_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole study that waits too long for its second place does not keep the first one."""
    monkeypatch.setattr(limits, "WAIT_SECONDS", 0.01)
    places = RequestLimits(transfers=1, transfers_of_app=1, connections=100)
    async with places.transfer(OF_P1, Retrieval(Kind.INSTANCE, INSTANCE)):
        with pytest.raises(Problem):
            await places.transfer(OF_P1, Retrieval(Kind.STUDY, STUDY)).__aenter__()
        assert is_empty(places.whole_transfers)


def test_waiting_leaves_connections_to_others() -> None:
    for connections in (10, 100, 2_000):
        in_all, of_patient, of_app = limits.most_waiting(connections)
        # A request waits in one queue at a time; there are three.
        assert 3 * in_all < connections
        assert of_app <= of_patient <= max(1, in_all // 2)


@pytest.mark.parametrize(
    ("connections", "waiting"),
    [(1, (1, 1, 1)), (10, (2, 1, 1)), (100, (25, 12, 12)), (2_000, (500, 250, 250))],
)
def test_a_quarter_of_all_connections_may_wait(
    connections: int, waiting: tuple[int, int, int]
) -> None:
    assert limits.most_waiting(connections) == waiting


OF_P1 = Token((), 0, patient="p1", client_id="a")


FULL = "Too many requests wait at the server; try again."
FULL_OF_PATIENT = "Too many requests of this patient wait; wait for some to end."
FULL_OF_CLIENT = "Too many requests of this client wait; wait for some to end."
BUSY = "The server is busy; try again."
NO_PLACES = [
    ("streams", (0, 9, 9), 503, "too_many_streams", FULL),
    ("streams", (9, 0, 9), 429, "too_many_streams_of_patient", FULL_OF_PATIENT),
    ("streams", (9, 9, 0), 429, "too_many_streams_of_client", FULL_OF_CLIENT),
    ("streams", (9, 9, 9), 503, "streams_queue_timeout", BUSY),
    ("searches", (0, 9, 9), 503, "too_many_searches", FULL),
    ("searches", (9, 0, 9), 429, "too_many_searches_of_patient", FULL_OF_PATIENT),
    ("searches", (9, 9, 0), 429, "too_many_searches_of_client", FULL_OF_CLIENT),
    ("searches", (9, 9, 9), 503, "searches_queue_timeout", BUSY),
    ("queries", (0, 9, 9), 503, "too_many_queries", FULL),
    ("queries", (9, 0, 9), 429, "too_many_queries_of_patient", FULL_OF_PATIENT),
    ("queries", (9, 9, 9), 503, "queries_queue_timeout", BUSY),
]


@pytest.mark.parametrize(("of", "waiting", "status", "reason", "diagnostics"), NO_PLACES)
async def test_why_a_request_gets_no_place(
    of: str,
    waiting: tuple[int, ...],
    status: int,
    reason: str,
    diagnostics: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "most_waiting", lambda connections: waiting)
    monkeypatch.setattr(limits, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(limits, "QUERY_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(limits, "SEARCHES_AT_ONCE", (1, 1, 1))
    monkeypatch.setattr(limits, "QUERIES_AT_ONCE", (1, 1))
    monkeypatch.setattr(limits, "UNLIMITED", waiting[0])
    monkeypatch.setattr(limits, "QUERIES_WAITING", waiting[1])
    places = RequestLimits(transfers=1, transfers_of_app=1, connections=100)
    queries = QueryLimits()
    places_of: dict[str, Callable[[], AbstractAsyncContextManager[object]]] = {
        "streams": lambda: places.transfer(OF_P1, Retrieval(Kind.INSTANCE, INSTANCE)),
        "searches": lambda: places.search(OF_P1),
        "queries": lambda: queries.place(OF_P1),
    }
    make = places_of[of]
    async with make():
        with pytest.raises(Problem) as refused, durations_of_a_request() as durations:
            async with make():
                pass
    assert set(durations) == ({"queue"} if of != "queries" else set())
    assert (refused.value.status, refused.value.reason) == (status, reason)
    assert refused.value.diagnostics == diagnostics
    assert refused.value.retry_after == limits.RETRY_AFTER_SECONDS
    async with make():  # The place is free again.
        pass


@pytest.mark.parametrize(("transfers", "at_once"), [(1, 1), (4, 2), (9, 4)])
async def test_half_of_an_apps_places_are_for_whole_studies(transfers: int, at_once: int) -> None:
    """Of one place as well: else it could never have one."""
    places = RequestLimits(transfers=99, transfers_of_app=transfers, connections=100)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(at_once):
            whole = places.transfer(OF_P1, Retrieval(Kind.STUDY, STUDY))
            await stack.enter_async_context(whole)
        assert held_count(places.transfers) == held_count(places.whole_transfers) == at_once
        more = asyncio.create_task(
            places.transfer(OF_P1, Retrieval(Kind.STUDY, STUDY)).__aenter__()
        )
        await wait_until_async("one that waits", lambda: waiting_count(places.whole_transfers))
        more.cancel()
        await asyncio.gather(more, return_exceptions=True)
