"""Servers on bare sockets, whose connections end with them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def stream_server(
    connection: Connection, *, path: Path | None = None, port: int = 0, **options: Any
) -> AsyncIterator[int]:
    """Serve each connection by ``connection`` on a loopback port; yield it. 0 is any free one.

    With ``path`` it is a socket in the file system, and 0 is yielded.

    A connection that still goes on at the end is reset, and its task is cancelled and awaited: a
    socket that is left to the garbage collector would fail the test that runs then.
    """
    running: dict[asyncio.Future[None], asyncio.StreamWriter] = {}

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running[asyncio.ensure_future(connection(reader, writer))] = writer

    if path is None:
        server = await asyncio.start_server(serve, "127.0.0.1", port, **options)
    else:
        server = await asyncio.start_unix_server(serve, path)
    try:
        yield 0 if path is not None else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(3):  # A connection that was just accepted is made.
            await asyncio.sleep(0)
        for task, writer in running.items():
            with contextlib.suppress(AttributeError):  # asyncio's, if it is closed already.
                writer.transport.abort()
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
