"""How much of a long body is read at once."""

import socket
from typing import ClassVar

import pytest

from sidecar.pacs.response import LEAST_PIECE_BYTES, PIECE_BYTES, SocketBody
from tests.event_loops import Run


def test_no_piece_is_longer_than_was_agreed(run: Run) -> None:
    """Memory, and the turn of everybody else, however much waits in the socket."""

    class Stub(socket.socket):
        asked: ClassVar[list[int]] = []

        def recv(self, size: int, flags: int = 0) -> bytes:
            self.asked.append(size)
            return bytes(size)

    async def read() -> list[int]:
        body = SocketBody(Stub(), 3 * 2**20 + 5)
        pieces = list[int]()
        while piece := await body.read():
            pieces += map(len, piece)
        body.close()
        return pieces

    assert PIECE_BYTES <= 2**20
    assert run(read()) == [PIECE_BYTES] * 3 + [5]
    assert Stub.asked == [PIECE_BYTES] * 3 + [5]


@pytest.mark.parametrize(
    ("others", "size"), [(0, 2**20), (1, 2**19), (7, 2**17), (500, LEAST_PIECE_BYTES)]
)
def test_the_more_bodies_are_read_the_less_at_once(run: Run, others: int, size: int) -> None:
    """A small request has its turn behind a megabyte, whether one study is read or sixteen."""
    asked: list[int] = []

    class Stub(socket.socket):
        def recv(self, size: int, flags: int = 0) -> bytes:
            asked.append(size)
            return bytes(size)

    async def read() -> None:
        bodies = [SocketBody(Stub(), 2**24) for _ in range(others + 1)]
        await bodies[-1].read()
        for body in bodies[:-1]:
            body.close()
        await bodies[-1].read()
        bodies[-1].close()

    run(read())
    assert asked == [size, PIECE_BYTES]
