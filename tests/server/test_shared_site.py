"""Connections that are opened at once spread over those who accept on one socket."""

import asyncio
import errno
import os
import socket
from collections import Counter
from typing import Any

import pytest
from aiohttp import web

from sidecar.server import shared_site
from sidecar.server.listener import Listener
from sidecar.server.sockets import listen_on

CONNECTIONS = 24
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def _listener(name: str, listening: socket.socket) -> Listener:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/", answer)
    return Listener(app, [listening], is_shared=True)


async def _ask(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    answer = await reader.read()
    writer.close()
    return answer.rpartition(b"\r\n")[2].decode()


async def test_connections_spread() -> None:
    (listening,) = listen_on("127.0.0.1", 0, "listener")
    listeners = [_listener("one", listening.dup()), _listener("other", listening)]
    for listener in listeners:
        await listener.start()
    port = listeners[0].port
    answers = Counter(await asyncio.gather(*(_ask(port) for _ in range(CONNECTIONS))))
    assert answers.total() == CONNECTIONS
    assert min(answers["one"], answers["other"]) >= CONNECTIONS // 3
    # What one no longer accepts is for the other.
    await listeners[0].stop(0)
    assert {await _ask(port) for _ in range(3)} == {"other"}
    await listeners[1].stop(0)


async def test_an_error_is_logged_and_accepting_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_site, "_ERROR_SECONDS", 0.01)
    errors = [errno.EMFILE, errno.ECONNABORTED]

    class Failing(socket.socket):
        def accept(self) -> Any:
            if errors:
                code = errors.pop(0)
                raise OSError(code, os.strerror(code))
            return super().accept()

    (listening,) = listen_on("127.0.0.1", 0, "listener")
    listener = _listener("here", Failing(fileno=listening.detach()))
    await listener.start()
    assert await _ask(listener.port) == "here"
    assert [record.__dict__["detail"] for record in caplog.records] == ["Too many open files"]
    await listener.stop(0)
