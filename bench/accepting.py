"""How connections spread over worker processes: one inherited socket against SO_REUSEPORT."""

import asyncio
import contextlib
import multiprocessing
import os
import selectors
import signal
import socket
import statistics
from collections import Counter
from collections.abc import Iterator
from multiprocessing.synchronize import Event

from aiohttp import web

from sidecar.common import event_loop
from sidecar.server.listener import Listener
from sidecar.server.sockets import BACKLOG

ROUNDS = 20


def compare_sockets() -> None:
    """Print how many of 6, 24 and 100 connections the busiest of 2 and 4 workers gets."""
    print(f"Connections opened at once, those of the busiest worker: median and most of {ROUNDS}")
    print(f"{'':26} {'even':>5} {'inherited':>11} {'with pauses':>12} {'SO_REUSEPORT':>13}")
    for workers in (2, 4):
        with (
            _workers(workers) as inherited,
            _workers(workers, is_shared=True) as with_pauses,
            _workers(workers, reuse=True) as own,
        ):
            for count in (6, 24, 100):
                busiest: dict[int, list[int]] = {inherited: [], with_pauses: [], own: []}
                for _ in range(ROUNDS):
                    for port, counts in busiest.items():
                        counts.append(max(_accepted(port, count).values()))
                texts = [f"{statistics.median(each):g}, {max(each)}" for each in busiest.values()]
                print(
                    f"{count:3} connections, {workers} workers {count / workers:5g} "
                    "{:>11} {:>12} {:>13}".format(*texts)
                )


def _accepted(port: int, count: int) -> Counter[int]:
    """Open ``count`` connections at once. Return the number by the process that answered."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
            selector.register(connection, selectors.EVENT_WRITE)
        answers: Counter[int] = Counter()
        while selector.get_map():
            for key, events in selector.select(10):
                connection = key.fileobj  # type: ignore[assignment]
                if events & selectors.EVENT_WRITE:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
                    selector.modify(connection, selectors.EVENT_READ)
                else:
                    answers[int(connection.recv(4_096).rpartition(b"\r\n")[2])] += 1
                    selector.unregister(connection)
        return answers


@contextlib.contextmanager
def _workers(count: int, *, reuse: bool = False, is_shared: bool = False) -> Iterator[int]:
    """Run ``count`` processes that answer with their process id. Yield the port."""
    fork = multiprocessing.get_context("fork")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(_listening(0, reuse=reuse))
        port: int = first.getsockname()[1]
        others = count - 1 if reuse else 0
        sockets = [
            first,
            *(stack.enter_context(_listening(port, reuse=True)) for _ in range(others)),
        ]
        processes = []
        for index in range(count):
            ready = fork.Event()
            process = fork.Process(
                target=_serve, args=(sockets[index % len(sockets)], ready, is_shared)
            )
            process.start()
            ready.wait(10)
            processes.append(process)
        try:
            yield port
        finally:
            for process in processes:
                os.kill(process.pid or 0, signal.SIGTERM)
                process.join(10)


def _listening(port: int, *, reuse: bool) -> socket.socket:
    listening = socket.socket()
    if reuse:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def _serve(listening: socket.socket, ready: Event, is_shared: bool) -> None:
    app = web.Application()
    app.router.add_get("/", _answer)

    async def until_stopped(stop: asyncio.Event) -> None:
        listener = Listener(app, [listening], is_shared=is_shared)
        await listener.start()
        ready.set()
        await stop.wait()
        await listener.stop(0.1)

    event_loop.serve(until_stopped)


async def _answer(request: web.Request) -> web.Response:
    return web.Response(text=str(os.getpid()))
