"""One app cannot take all transfers; all apps together cannot take the archive (429, 503, Retry-After)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import Unavailable
from sidecar.web.limits import StreamLimits, TooManyRequests
from tests.upstreams import ScriptedEhr, ScriptedPacs, sidecar_between
from tests.web.test_stream import HEADERS, MULTIPART, PART, PATH


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60), st.integers(1, 6), st.integers(1, 4))
def test_never_more_than_allowed(steps: list[tuple[bool, str]], overall: int, per_client: int) -> None:
    """Against a plain count; whatever ends frees its place."""
    limits = StreamLimits(overall=overall, per_client=per_client)
    running: dict[str, list[contextlib.ExitStack]] = {"a": [], "b": [], "c": []}
    for begins, client in steps:
        if not begins:
            if running[client]:
                running[client].pop().close()
            continue
        total, mine = sum(map(len, running.values())), len(running[client])
        stack = contextlib.ExitStack()
        try:
            stack.enter_context(limits.slot(client))
        except TooManyRequests:
            assert mine == per_client
        except Unavailable:
            assert total == overall
        else:
            assert mine < per_client
            assert total < overall
            running[client].append(stack)


@dataclass
class Slow:
    """A PACS whose answers go on until ``done``."""

    done: asyncio.Event

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Connection: close\r\n\r\n" + PART)
        await writer.drain()
        await self.done.wait()
        writer.write(b"--abc--\r\n")


@contextlib.asynccontextmanager
async def downloads(url: str, count: int) -> AsyncIterator[list[aiohttp.ClientResponse]]:
    """Begin that many at once, and keep them."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession(headers=HEADERS))
        yield [await stack.enter_async_context(client.get(url + PATH)) for _ in range(count)]


@pytest.mark.parametrize(
    ("server", "status"),
    [({"max_streams_per_client": 2}, 429), ({"max_streams": 2}, 503)],
)
async def test_one_more_is_told_to_wait(server: dict[str, Any], status: int) -> None:
    slow = Slow(asyncio.Event())
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(slow, instances=1), server=server) as (url, _),
        downloads(url, 2) as running,
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        assert [one.status for one in running] == [200, 200]
        async with client.get(url + PATH) as refused:
            assert refused.status == status
            assert int(refused.headers["Retry-After"]) > 0
            assert (await refused.json(content_type=None))["resourceType"] == "OperationOutcome"
        # Searches go on.
        async with client.get(url + "/fhir/ImagingStudy") as search:
            assert search.status == 200
        slow.done.set()
        for one in running:
            await one.read()
        async with client.get(url + PATH) as again:
            assert again.status == 200
            await again.read()


async def test_whoever_may_not_have_it_takes_no_place() -> None:
    """Refusals come before places are counted: junk requests cannot keep others out."""
    slow = Slow(asyncio.Event())
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(slow), server={"max_streams": 1}) as (url, _),
        downloads(url, 1),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + "/wado-rs/studies/1.2.3") as foreign,
    ):
        assert foreign.status == 404
        slow.done.set()
