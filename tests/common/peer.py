"""A small real HTTP server that answers what a test tells it, and what a test needs beside it."""

import contextlib
import json
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.bootstrap.context import open_session
from sidecar.server.listener import listen

NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = 1_000_000) -> None:
        self.now = float(now)

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Reply:
    """A response. ``body`` is text or bytes, or JSON. ``write`` takes over the rest."""

    body: Any = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    write: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: CIMultiDictProxy[str]
    form: dict[str, str]


@dataclass
class Peer:
    """Answer requests with ``replies`` in turn; the last stays. ``asked`` has all requests."""

    url: str = ""
    replies: list[Reply] = field(default_factory=lambda: [Reply({})])
    asked: list[Asked] = field(default_factory=list)

    def say(self, *replies: Reply) -> None:
        """From now on."""
        self.replies = list(replies)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Handle any request."""
        body = (await request.read()).decode()
        form = {name: str(value) for name, value in (await request.post()).items()} if body else {}
        self.asked.append(Asked(request.method, request.raw_path, request.headers, form))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.write is not None:
            return await reply.write(request)
        content = reply.body if isinstance(reply.body, str | bytes) else json.dumps(reply.body)
        content = content.encode() if isinstance(content, str) else content
        return web.Response(body=content, status=reply.status, headers=reply.headers)


@contextlib.asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[Peer]:
    """Serve ``peer`` on a loopback port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", peer.answer)
    async with listen(app, "127.0.0.1", 0) as port:
        peer.url = f"http://127.0.0.1:{port}"
        yield peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A running peer."""
    async with serving(Peer()) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client session as the product makes it."""
    async with open_session(None, connections=100) as made:
        yield made


_OTHERS_DIGITS = {"created", "msecs", "relativeCreated", "thread", "process", "taskName"}
"""What logging adds to a record by itself: times and numbers, which may look like a secret."""


def all_that_is_said(caplog: pytest.LogCaptureFixture, *errors: BaseException) -> str:
    """Return all that a log, a traceback or an error response could carry of these.

    Without what differs in each run: times, numbers of threads, and addresses in memory.
    """
    said = [caplog.text]
    for record in caplog.records:
        ours = {name: value for name, value in vars(record).items() if name not in _OTHERS_DIGITS}
        said.append(repr(ours) + record.getMessage())
    pending: list[BaseException | None] = list(errors)
    while pending:
        error = pending.pop()
        if error is not None:
            said += [str(error), repr(error.args), *traceback.format_exception(error)]
            said.append(str(getattr(error, "diagnostics", "")))
            pending += [error.__cause__, error.__context__]
    return re.sub(r"\b0x[0-9a-f]+", "0x", "\n".join(said))
