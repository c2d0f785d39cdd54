"""Two workers whose real Redis is killed, frozen or slow: they go on, and let nobody in for it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic

import pytest
import requests

from tests.background import Background
from tests.fakes.ehr import PATIENT, TOKEN, active, to_the_token
from tests.fakes.two_workers import ENOUGH, TTL_SECONDS, World
from tests.real.redis_server import RedisProcess, redis_server
from tests.waiting import wait_until

pytestmark = pytest.mark.redis

LONGEST_SECONDS = 20
"""Of an answer, on a machine as busy as may be. Of the Redis it waits for half a second at most."""


@contextlib.contextmanager
def killed(server: RedisProcess) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextlib.contextmanager
def slow(server: RedisProcess) -> Iterator[None]:
    """It runs for a twentieth of the time, in pieces: some answers come in time."""
    over = threading.Event()

    def hold_up() -> None:
        while not over.wait(0.01):
            with server.frozen():
                over.wait(0.19)

    thread = threading.Thread(target=hold_up)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


Fault = Callable[[RedisProcess], AbstractContextManager[None]]


class Client:
    """Ask the workers, each time on a connection of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.longest = self.last_good = 0.0

    def status(self, token: str) -> int:
        headers, began = {"Authorization": f"Bearer {token}"}, monotonic()
        status = requests.get(self._world.searched, headers=headers, timeout=60).status_code
        self.longest = max(self.longest, monotonic() - began)
        if status == 200:
            self.last_good = began
        return status

    def statuses(self) -> set[int]:
        """Ask with the good token until both workers have answered."""
        return {self.status(TOKEN) for _ in range(ENOUGH)}


@pytest.mark.parametrize("fault", [killed, RedisProcess.frozen, slow], ids=lambda one: one.__name__)
def test_workers_go_on_without_their_redis(tmp_path: Path, fault: Fault) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 64)
    with redis_server() as server, Background() as background:
        world = World(background, tmp_path, cache={"url": server.url, "key_file": str(key)})
        world.ehr.answer = to_the_token(active(PATIENT))
        numbers = iter(range(100_000))
        with world.sidecar:
            world.logged("serving")
            client = Client(world)
            assert client.statuses() == {200}
            with fault(server):
                client.longest = 0
                for _ in range(ENOUGH):
                    assert client.status(f"nobody{next(numbers)}") == 401
                    assert client.status(TOKEN) == 200
                world.ehr.answer, revoked = {"active": False}, monotonic()
                wait_until("the end of the token", client.statuses, {401}.__eq__)
                assert client.last_good < revoked + TTL_SECONDS
            assert client.longest < LONGEST_SECONDS

            def shared() -> float:
                token = f"again{next(numbers)}"
                assert {client.status(token) for _ in range(ENOUGH)} == {401}
                return world.sidecar.metric(
                    'smart_imaging_token_cache_lookups_total{result="shared_negative_hit"}'
                )

            before = shared()
            wait_until("its use", shared, lambda now: now > before)
