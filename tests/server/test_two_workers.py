"""Two workers answer as one process does: pages, addresses, probes, and while one is stopped."""

import asyncio
import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest
import requests
from aiohttp import web

from tests.background import Background
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

STUDIES = [f"1.2.{number}" for number in range(1, 9)]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TTL_SECONDS = 3
ENOUGH = 20
"""Requests on connections of their own, which come to both workers."""


def row(study: str) -> dict[str, Any]:
    return {
        "00100020": {"vr": "LO", "Value": [PATIENT]},
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [study + ".1"]},
    }


class SlowArchive(RowArchive):
    """Answers a query whose target contains ``slow`` after ``seconds``."""

    slow, seconds = "", 0.0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = await super().answer(request)
        if self.slow in request.raw_path:
            await asyncio.sleep(self.seconds)
        return response


class World:
    """Two workers between an EHR and an archive.

    ``cache``: more of ``tokens.cache``. ``limits``: more of ``limits``.
    """

    def __init__(
        self,
        background: Background,
        folder: Path,
        *,
        cache: Mapping[str, str] | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self.ehr, self.archive = ScriptedEhr(), SlowArchive(*map(row, STUDIES))
        keys = folder / "keys"
        keys.write_text(f"one {'1' * 64}\n")
        document = {
            "server": {"workers": 2},
            "ehr": {"fhir_url": f"http://127.0.0.1:{background.serve(self.ehr.app())}/fhir"},
            "tokens": {
                "client": {"method": "none"},
                "cache": {"ttl_seconds": TTL_SECONDS, **(cache or {})},
            },
            "pacs": {"url": f"http://127.0.0.1:{background.serve(self.archive.app())}/rs"},
            "capabilities": {"mode": "token_bound", "keys_file": str(keys)},
            "fhir": {
                "detail": "study",
                "catalog": {"store": "sqlite", "file": str(folder / "catalog")},
            },
            "limits": {"search_cache_seconds": 3_600, **(limits or {})},
        }
        self.sidecar = SidecarProcess(folder, document)

    def search(self, **parameters: str) -> dict[str, Any]:
        return self.bundle(requests.get(self.searched, parameters, headers=HEADERS, timeout=60))

    @property
    def searched(self) -> str:
        return f"{self.sidecar.fhir}/ImagingStudy"

    @staticmethod
    def bundle(answer: requests.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def totals(self) -> Counter[int]:
        """How many studies searches find."""
        return Counter(self.search()["total"] for _ in range(ENOUGH))

    def logged(self, message: str) -> None:
        wait_until(message, lambda: self.sidecar.log, lambda log: f'"{message}"' in log)

    @contextlib.contextmanager
    def probed(self) -> Iterator[Counter[object]]:
        """Ask /readyz all the time. Yields how often which status was seen."""
        seen: Counter[object] = Counter()
        over = threading.Event()

        def probe() -> None:
            while not over.is_set():
                try:
                    seen[requests.get(self.sidecar.admin + "/readyz", timeout=60).status_code] += 1
                except requests.RequestException as error:
                    seen[repr(error)] += 1

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            wait_until("a probe", lambda: seen)
            yield seen
        finally:
            over.set()
            thread.join()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Background() as background:
        made = World(background, tmp_path)
        with made.sidecar:
            made.logged("serving")
            yield made


def get(world: World) -> requests.Response:
    return requests.get(world.searched, {"_count": "1"}, headers=HEADERS, timeout=60)


def post(world: World) -> requests.Response:
    url, form = world.searched + "/_search", {"patient": PATIENT, "_count": "1"}
    return requests.post(url, form, headers=HEADERS, timeout=60)


@pytest.mark.parametrize("first", [get, post])
def test_the_pages_of_a_search_come_from_any_worker(
    world: World, first: Callable[[World], requests.Response]
) -> None:
    """Each page is asked for on a connection of its own."""
    bundle, found = world.bundle(first(world)), []
    while True:
        found += [entry["resource"]["id"] for entry in bundle["entry"] if is_study(entry)]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            break
        bundle = world.bundle(requests.get(following[0], headers=HEADERS, timeout=60))
    assert sorted(found) == STUDIES


def is_study(entry: dict[str, Any]) -> bool:
    kind: str = entry["resource"]["resourceType"]
    return kind == "ImagingStudy"


def test_an_address_ends_at_all_workers_within_the_ttl_of_its_token(world: World) -> None:
    """Each believes the token by itself, so one may refuse it before the other."""
    (address,) = [
        entry["resource"]["address"]
        for entry in world.search(identifier=f"urn:oid:{STUDIES[0]}")["entry"]
        if entry["resource"]["resourceType"] == "Endpoint"
    ]
    last_good = 0.0

    def statuses() -> set[int]:
        nonlocal last_good
        seen = set()
        for _ in range(ENOUGH):
            began = monotonic()
            url = f"{address}/studies/{STUDIES[0]}/series"
            status = requests.get(url, headers=HEADERS, timeout=60).status_code
            seen.add(status)
            last_good = began if status == 200 else last_good
        return seen

    assert statuses() == {200}
    world.ehr.answer, revoked = {"active": False}, monotonic()
    wait_until("the end", statuses, {401}.__eq__)
    assert last_good < revoked + TTL_SECONDS


def test_a_worker_that_was_stopped_forgets_before_it_answers(world: World) -> None:
    assert world.totals() == {len(STUDIES): ENOUGH}
    stopped = world.sidecar.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        wait_until("its stop", psutil.Process(stopped).status, psutil.STATUS_STOPPED.__eq__)
        world.archive.rows = ()
        asked = requests.post(world.sidecar.admin + "/admin/invalidate", timeout=60)
        assert asked.status_code == 204
        assert world.totals() == {0: ENOUGH}
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert world.totals() == {0: ENOUGH}


def test_a_reload_is_ready_all_the_time(world: World) -> None:
    with world.probed() as seen:
        os.kill(world.sidecar.process_id, signal.SIGHUP)
        world.logged("reloaded")
        count = seen[200]
        wait_until("a probe of the new workers", lambda: seen[200], lambda now: now > count)
    assert set(seen) == {200}


def test_while_all_workers_start_again_requests_wait(world: World) -> None:
    """Connections that a dead worker had break. No other is refused, and each has its answer."""
    killed = set(world.sidecar.workers())
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    wait_until("their end", lambda: killed & set(world.sidecar.workers()), lambda left: not left)
    answer = requests.get(world.sidecar.admin + "/readyz", timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert world.totals() == {len(STUDIES): ENOUGH}


@pytest.mark.parametrize("keeps", [True, False], ids=["one-connection", "many-connections"])
def test_a_slow_archive_is_asked_once_by_a_worker(tmp_path: Path, *, keeps: bool) -> None:
    """A repetition on the same connection comes to the worker that has the answer, or waits."""
    with Background() as background, requests.Session() as session:
        world = World(background, tmp_path, limits={"defer_after_seconds": 1})
        with world.sidecar:
            world.logged("serving")
            world.archive.slow, world.archive.seconds = "StudyDate", 5

            def status() -> int:
                get = session.get if keeps else requests.get
                answer = get(world.searched, {"patient": PATIENT}, headers=HEADERS, timeout=60)
                return answer.status_code

            assert status() == 503
            wait_until("the answer", status, (200).__eq__)
            asked = [target for target in world.archive.asked if world.archive.slow in target]
            assert len(asked) in ([1] if keeps else [1, 2])
