"""The interface of the scanners of a retrieval's body, and the scanners of single bodies.

A scanner takes bytes and returns the bytes that may leave.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.instance_header import HeaderReader


class Malformed(ValueError):
    """The body does not match its head, or is not whole.

    ``reason`` is a constant for logs.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Scanner(Protocol):
    """Takes a body chunk by chunk.

    ``parts`` is the number of instances, rows or other parts that have begun. What closes the body
    is held back until ``end``, so that the caller can compare ``parts`` with the expected number.
    """

    parts: int

    @property
    def is_closed(self) -> bool:
        """Whether nothing but the end of the body can come."""

    def length(self, content_length: int | None) -> int | None:
        """Return how many bytes leave in all, ``None`` if it is not known when the first leave.

        ``content_length`` is that of the archive's body.
        """

    def steps(self, chunk: bytes) -> Iterator[bytes | memoryview]:
        """Return the bytes that may leave now, some milliseconds of work at a time.

        All steps of a chunk are taken before those of the next chunk. A step may be empty. Raises
        ``Malformed``, ``Unreadable``, and what the check raises.
        """

    def end(self) -> bytes:
        """Return the bytes that are left at the end of the body.

        Raises ``Malformed`` or ``Unreadable`` when the body is not whole.
        """


Check = Callable[[InstanceHeader], None]
"""Raises when the instance is not permitted."""


class PassThrough:
    """Scanner of a single body whose Content-Length shows whether it is whole."""

    parts = 1
    is_closed = False

    def length(self, content_length: int | None) -> int | None:
        """Return ``content_length``."""
        return content_length

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Return the chunk."""
        yield chunk

    def end(self) -> bytes:
        """Return nothing. The reader of the body has checked its length."""
        return b""


class SingleInstance(PassThrough):
    """Scanner of a single ``application/dicom`` body, which is held until ``check`` has passed."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._reader = HeaderReader()
        self._held = b""

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Return the bytes in steps. The last step of a chunk has all bytes that leave."""
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
        """Return the whole instance if it ended with its header, else nothing.

        Raises ``Unreadable`` as ``HeaderReader`` does.
        """
        was_known = self._reader.header is not None
        header = self._reader.end()
        return b"" if was_known else self._release(header)

    def _release(self, header: InstanceHeader) -> bytes:
        self._check(header)
        held, self._held = self._held, b""
        return held
