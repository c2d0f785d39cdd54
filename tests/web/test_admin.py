"""The admin listener: alive, ready, metrics; probes are no load for the EHR and the PACS."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.common.errors import BadGateway, Unavailable
from sidecar.server.listener import listen
from sidecar.telemetry.metrics import Metrics
from sidecar.web.admin import Readiness, create_admin
from tests.common.peer import Clock
from tests.waiting import wait_until_async


class Probe:
    """A dependency that is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> None:
        self.asked += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


class World:
    """Readiness of an EHR and a PACS, with a clock."""

    def __init__(self) -> None:
        self.ehr, self.pacs, self.clock = Probe(), Probe(), Clock()
        self.readiness = Readiness({"ehr": self.ehr, "pacs": self.pacs}, clock=self.clock)


@pytest.fixture
async def world() -> World:
    """Its clock is that of the readiness alone: the event loop goes on with the real one."""
    return World()


async def test_ready_when_all_answer(world: World) -> None:
    assert await world.readiness.problems() == {}
    assert (world.ehr.asked, world.pacs.asked) == (1, 1)


async def test_each_dependency_has_its_reason(world: World) -> None:
    """All are asked, whatever the first says; a constant each, no text."""
    world.ehr.failure = Unavailable("The EHR is down.", reason="ehr_unreachable")
    world.pacs.failure = BadGateway("The PACS is odd.", reason="query_not_json")
    assert await world.readiness.problems() == {"ehr": "ehr_unreachable", "pacs": "query_not_json"}


async def test_the_answer_is_kept_for_5_seconds(world: World) -> None:
    """Whether it was good or bad."""
    assert await world.readiness.problems() == {}
    world.pacs.failure = Unavailable("x.", reason="down")
    world.clock.now += 4.9
    assert await world.readiness.problems() == {}
    assert world.pacs.asked == 1
    world.clock.now += 0.2
    assert await world.readiness.problems() == {"pacs": "down"}
    world.pacs.failure = None
    world.clock.now += 4.9
    assert await world.readiness.problems() == {"pacs": "down"}
    assert world.pacs.asked == 2
    world.clock.now += 0.2
    assert await world.readiness.problems() == {}


async def test_all_who_ask_at_once_share_a_probe(world: World) -> None:
    world.pacs.gate.clear()
    waiting = [asyncio.create_task(world.readiness.problems()) for _ in range(50)]
    await wait_until_async("the question", lambda: world.pacs.asked)
    world.pacs.gate.set()
    assert await asyncio.gather(*waiting) == [{}] * 50
    assert world.pacs.asked == 1


async def test_a_probe_that_was_given_up_goes_on_for_the_next(world: World) -> None:
    """An orchestrator waits for a second, a slow archive takes longer: its answer is there at the
    next probe.
    """
    world.pacs.gate.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await world.readiness.problems()
    world.pacs.gate.set()
    assert await world.readiness.problems() == {}
    assert world.pacs.asked == 1


async def test_draining_is_not_ready_at_once(world: World) -> None:
    """Whatever is kept; nobody is asked."""
    assert await world.readiness.problems() == {}
    world.readiness.draining = True
    assert await world.readiness.problems() == {"server": "draining"}
    assert world.pacs.asked == 1


async def test_a_fault_in_a_probe_is_not_ready(world: World) -> None:
    world.pacs.failure = ValueError("a-recognizable-secret")
    problems = await world.readiness.problems()
    assert set(problems) == {"pacs"}
    assert "secret" not in problems["pacs"]


async def test_dependencies_are_asked_at_the_same_time(world: World) -> None:
    """A probe of an orchestrator takes a second or so: two slow answers must not add up."""
    world.ehr.gate.clear()
    waiting = asyncio.create_task(world.readiness.problems())
    try:
        await wait_until_async("the PACS is asked", lambda: world.pacs.asked)
    finally:
        world.ehr.gate.set()
        await waiting


@pytest.fixture
async def url(world: World) -> AsyncIterator[str]:
    """The admin listener's."""
    async with listen(create_admin(Metrics("1.2.3"), world.readiness), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


async def test_the_listener(world: World, url: str) -> None:
    async with aiohttp.ClientSession() as client:
        for path in ("/healthz", "/readyz"):
            async with client.get(url + path) as answer:
                assert answer.status == 200
        world.readiness.draining = True
        async with client.get(url + "/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {
                "status": "not ready",
                "problems": {"server": "draining"},
            }
        async with client.get(url + "/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "alive"})
        async with client.get(url + "/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == Metrics.CONTENT_TYPE
            families = {
                family.name for family in text_string_to_metric_families(await answer.text())
            }
            assert "smart_imaging_build_info" in families
        for path in ("/", "/fhir/metadata", "/wado-rs/studies"):
            async with client.get(url + path) as answer:
                assert answer.status == 404


async def test_not_ready_is_503_with_the_reason(world: World, url: str) -> None:
    world.ehr.failure = Unavailable("Its text.", reason="ehr_timeout")
    async with aiohttp.ClientSession() as client, client.get(url + "/readyz") as answer:
        assert answer.status == 503
        assert await answer.json() == {"status": "not ready", "problems": {"ehr": "ehr_timeout"}}
