"""The scanners that a retrieval's body passes through, bytes in and bytes out.

Here are those of bodies that are no multipart.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.instance_header import HeaderReader


class Malformed(ValueError):
    """The body is not what its head announced, or not whole.

    ``reason`` is a constant for logs.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Scanner(Protocol):
    """Takes a body chunk by chunk.

    ``parts``: how many instances, rows or other parts have begun. What closes the body is held back
    until ``end``, so that the caller can compare ``parts`` with what should have come.
    """

    parts: int

    @property
    def is_closed(self) -> bool:
        """Whether nothing but the end of the body can come."""

    def length(self, came: int | None) -> int | None:
        """Return how many bytes leave in all, or ``None``: not known when the first ones leave.

        ``came``: the Content-Length of what comes in.
        """

    def steps(self, chunk: bytes) -> Iterator[bytes | memoryview]:
        """Return what may be passed on now, some milliseconds of work at a time.

        All steps of a chunk are taken before the next one's. A step may have nothing to pass on.
        Raises ``Malformed``, ``Unreadable``, and what the check raises.
        """

    def end(self) -> bytes:
        """Return what is left at the end of the body.

        Raises ``Malformed`` or ``Unreadable`` when it is not whole.
        """


Check = Callable[[InstanceHeader], None]
"""Raises when the instance is not the permitted one."""


class PassThrough:
    """Scanner of a single body whose Content-Length shows whether it is whole."""

    parts = 1
    is_closed = False

    def length(self, came: int | None) -> int | None:
        """Return what came."""
        return came

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Return the chunk."""
        yield chunk

    def end(self) -> bytes:
        """Return nothing: its length was checked where it was read."""
        return b""


class SingleInstance(PassThrough):
    """Scanner of a single ``application/dicom`` body: held until ``check`` has seen its header."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._reader = HeaderReader()
        self._held = b""

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Return the bytes in steps; the last step of a chunk has all that leaves of it."""
        was_known = self._reader.header is not None
        for _ in self._reader.steps(chunk):
            yield b""
        if was_known:
            yield chunk
            return
        self._held += chunk
        if self._reader.header is not None:
            yield self._release(self._reader.header)

    def end(self) -> bytes:
        """Return an instance that ended with its header.

        Raises ``Unreadable`` as ``HeaderReader`` does.
        """
        was_known = self._reader.header is not None
        header = self._reader.end()
        return b"" if was_known else self._release(header)

    def _release(self, header: InstanceHeader) -> bytes:
        self._check(header)
        held, self._held = self._held, b""
        return held
