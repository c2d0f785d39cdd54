"""Servers on bare sockets, whose connections end with them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def stream_server(connection: Connection, **options: Any) -> AsyncIterator[int]:
    """Serve each connection by ``connection`` on a loopback port; yield the port.

    A connection that still goes on at the end is reset, and its task is cancelled and awaited: a
    socket that is left to the garbage collector would fail the test that runs then.
    """
    running: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running[task] = writer
        await connection(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task, writer in running.items():
            with contextlib.suppress(AttributeError):  # asyncio's, if it is closed already.
                writer.transport.abort()
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
