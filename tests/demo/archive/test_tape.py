"""A study on tape: the first retrieval waits, later ones wait for the rest, searches do not."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from sidecar.common.errors import Problem
from sidecar.demo.archive import tape
from sidecar.demo.archive.tape import ONLINE_SECONDS, on_tape

STUDY, OTHER = "1.2.3", "1.2.4"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited, in place of waiting."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(tape, "asyncio", SimpleNamespace(sleep=sleep))
    return waits


async def ask(middleware: Any, path: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    request = cast("web.Request", SimpleNamespace(match_info={"path": path}))
    assert (await middleware(request, handler)).status == 200


async def test_it_is_fetched_once_and_goes_back(slept: list[float]) -> None:
    now = 1_000.0
    wait = on_tape(STUDY, 15, lambda: now)
    await ask(wait, f"studies/{STUDY}")
    now += 6
    await ask(wait, f"studies/{STUDY}/series/1.5/thumbnail")
    now += 10
    await ask(wait, f"studies/{STUDY}/metadata")
    now += ONLINE_SECONDS
    await ask(wait, f"studies/{STUDY}")
    assert slept == [15, 9, 0, 15]


async def test_searches_and_other_studies_do_not_wait(slept: list[float]) -> None:
    wait = on_tape(STUDY, 15, lambda: 0.0)
    for path in ("studies", f"studies/{STUDY}/series", f"studies/{STUDY}/instances"):
        await ask(wait, path)
    await ask(wait, f"studies/{OTHER}")
    with pytest.raises(Problem):
        await ask(wait, f"studies/{STUDY}/nothing")
    assert slept == []


async def test_it_really_waits() -> None:
    started = asyncio.get_running_loop().time()
    await ask(on_tape(STUDY, 0.05), f"studies/{STUDY}")
    assert asyncio.get_running_loop().time() - started >= 0.05
