"""Two workers answer as one process does: pages, addresses, probes, and while one is stopped."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest
import requests

from tests.background import Background
from tests.fakes.ehr import PATIENT
from tests.fakes.two_workers import ENOUGH, HEADERS, STUDIES, TTL_SECONDS, World
from tests.waiting import wait_until


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
                answer = get(
                    world.searched, params={"patient": PATIENT}, headers=HEADERS, timeout=60
                )
                return answer.status_code

            assert status() == 503
            wait_until("the answer", status, (200).__eq__)
            asked = [target for target in world.archive.asked if world.archive.slow in target]
            assert len(asked) in ([1] if keeps else [1, 2])
