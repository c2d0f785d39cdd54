"""Read a retrieval's body from the archive, chunk by chunk, and pass it through its scanner.

A long body with a Content-Length is read from the connection's socket: aiohttp itself copies each
byte twice, in pieces of 256 KB, which costs more than all checks of a study. TLS and chunked bodies
keep to that way: the socket's bytes are not those of the body.
"""

import asyncio
import socket
from collections.abc import Awaitable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import ClassVar, Self

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.common.content_coding import Decoder, decoder_for
from sidecar.common.memory import HeapTrimmer
from sidecar.common.slices import in_slices
from sidecar.dicomweb.body_filter import Scanner
from sidecar.dicomweb.metadata import Metadata, takes_long

PIECE_BYTES = 2**20
"""Limit in bytes of what all bodies read in a turn of the event loop, and so of one read.

Longer pieces leave the processor's cache before they are sent.
"""
LEAST_PIECE_BYTES = 2**17
"""Limit in bytes of one read while many bodies are read: shorter ones cost twice the CPU time."""
LONG_BYTES = 2 * PIECE_BYTES
"""Least rest in bytes that is worth its connection, which serves no other request afterwards."""
_ENCODED_BODY_HEADERS = (
    "Content-Encoding",
    "Content-Length",
    "ETag",
    "Accept-Ranges",
    "Content-MD5",
    "Digest",
)
_REWRITING = ThreadPoolExecutor(1, "metadata")
"""One thread: a second would have the interpreter no sooner, and others need theirs."""


class Upstream:
    """An answer of the PACS: ``status``, ``headers`` and a body to ``read``.

    ``idle_seconds``: longest silence that its reader allows the body. ``chunked``: whether chunks,
    or the length of a compressed body, mark the body's end. ``expected``: how many instances the
    archive counted just before the request (``None``: not counted).

    A compressed body (``decoder_for``) is decompressed; the header lines about the compressed body
    are left out.

    As a context manager it is one of the users of ``heap``, and is closed at the block's end.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, *, idle_seconds: float, heap: HeapTrimmer
    ) -> None:
        self._response = response
        self._heap = heap
        # A range of a compressed body cannot be decompressed.
        self._decoder = decoder_for(response.headers) if response.status == 200 else None
        self.status = response.status
        self.headers = response.headers if self._decoder is None else _decoded(response.headers)
        self._steps: Iterator[bytes] = iter(())
        self._is_chunked = response.headers.get(hdrs.TRANSFER_ENCODING, "").lower() == "chunked"
        self.chunked = self._is_chunked or (
            self._decoder is not None and hdrs.CONTENT_LENGTH in response.headers
        )
        self.idle_seconds = idle_seconds
        self.expected: int | None = None
        self._first: list[bytes] | None = None
        self._taken = 0
        self._failure: Exception | None = None
        self._rest: SocketBody | None = None

    async def begin(self) -> None:
        """Wait for the first bytes of the body, however long; ``read`` returns or raises them."""
        try:
            self._first = await self._read_raw()
        except (aiohttp.ClientError, OSError) as failure:
            self._failure = failure

    def read(self) -> Awaitable[list[bytes]]:
        """Return the next bytes of the body, in the pieces in which they came; none at its end.

        Raises ``aiohttp.ClientError`` (also ``Undecodable``) or ``OSError`` for a body that breaks
        off. The caller bounds the silence: it needs one timer for a whole transfer.
        """
        if self._decoder is not None:
            return self._read_decoded(self._decoder)
        if self._rest is not None and self._first is None and self._failure is None:
            return self._rest.read()  # No coroutine for each piece but this one.
        return self._read_raw()

    async def _read_decoded(self, decoder: Decoder) -> list[bytes]:
        while True:
            for piece in self._steps:
                await asyncio.sleep(0)  # Other requests have their turn between two steps.
                if piece:
                    return [piece]
            pieces = await self._read_raw()
            if not pieces:
                decoder.end()
                return []
            self._steps = decoder.steps(b"".join(pieces))

    async def _read_raw(self) -> list[bytes]:
        """Return the next bytes, not decompressed."""
        if self._failure is not None:
            raise self._failure
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._rest is None and not self._is_chunked and (taken := take_over(self._response)):
            came, self._rest = taken
            if came:
                return [came]
        if self._rest is not None:
            return await self._rest.read()
        content = self._response.content
        if self._is_chunked:
            # Archives write chunks of some kilobytes: longer steps save more than a copy costs.
            data = await content.readany()
            return [data] if data else []
        return await self._read_pieces(content)

    async def _read_pieces(self, content: aiohttp.StreamReader) -> list[bytes]:
        pieces: list[bytes] = []
        while not pieces or self._taken < content.total_bytes:
            try:
                data, ends_chunk = await content.readchunk()
            except RuntimeError:  # aiohttp raises it if the connection was already gone.
                raise aiohttp.ClientPayloadError("the connection is gone") from None
            if data:
                self._taken += len(data)
                pieces.append(data)
            # The one empty body that aiohttp has for each 204 ends a chunk each time.
            elif not ends_chunk or content.at_eof():
                break
        return pieces

    async def __aenter__(self) -> Self:
        self._heap.enter()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._heap.leave()
        self.close()

    def close(self) -> None:
        """Close the connection unless the body was read to its end."""
        if self._rest is not None:
            self._rest.close()
        self._response.close()


def _decoded(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """Return the header lines that hold for the decompressed body."""
    decoded = CIMultiDict(headers)
    for name in _ENCODED_BODY_HEADERS:
        decoded.popall(name, None)
    return CIMultiDictProxy(decoded)


class SocketBody:
    """The last ``left`` bytes of a body, from ``own``, a duplicate of the connection's socket.

    The caller closes it. The more are open, the less each reads at once: small requests have their
    turn sooner, and slow clients let less wait in memory.
    """

    _open: ClassVar[set["SocketBody"]] = set()

    def __init__(self, own: socket.socket, left: int) -> None:
        self._own = own
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._is_watched = False
        self._waiter: asyncio.Future[None] | None = None
        self._open.add(self)

    async def read(self) -> list[bytes]:
        """Return the next bytes, as many as are there, in one piece; none at the end.

        Other requests have their turn first. Raises ``aiohttp.ClientPayloadError`` when the peer
        ends the connection before the body ends, ``OSError`` when it breaks off.
        """
        if not self._left:
            return []
        most = min(self._left, max(LEAST_PIECE_BYTES, PIECE_BYTES // len(self._open)))
        await asyncio.sleep(0)
        while True:
            try:
                data = self._own.recv(most)
                break
            except BlockingIOError:
                await self._wait()
        if not data:
            raise aiohttp.ClientPayloadError("the body is shorter than its Content-Length")
        self._left -= len(data)
        return [data]

    async def _wait(self) -> None:
        """Wait for bytes. The socket stays watched: to begin and end that each time costs more."""
        self._waiter = self._loop.create_future()
        if not self._is_watched:
            self._loop.add_reader(self._own.fileno(), self._readable)
            self._is_watched = True
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _readable(self) -> None:
        # Nobody reads, since the client is slow: this would be called again and again.
        if self._waiter is None:
            self._unwatch()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._loop.remove_reader(self._own.fileno())
            self._is_watched = False

    def close(self) -> None:
        """Close the socket."""
        self._open.discard(self)
        self._unwatch()
        self._own.close()


def take_over(response: aiohttp.ClientResponse) -> tuple[bytes, SocketBody] | None:
    """Return the bytes that have come, and the rest of the body, where that is worth it.

    Afterwards nothing comes by ``response.content``. The caller closes the rest and the response.
    Raises ``aiohttp.ClientError`` or ``OSError`` when the body has broken off already.
    """
    connection, content, length = response.connection, response.content, response.content_length
    transport = None if connection is None else connection.transport
    if (
        length is None
        or hdrs.TRANSFER_ENCODING in response.headers
        or length - content.total_bytes < LONG_BYTES
    ):
        return None
    if (
        transport is None
        or transport.is_closing()
        or transport.get_extra_info("sslcontext")
        or content.is_eof()
        or (theirs := transport.get_extra_info("socket")) is None
    ):
        return None
    try:
        own = socket.fromfd(theirs.fileno(), theirs.family, theirs.type)
    except OSError:  # No descriptor is left.
        return None
    try:
        own.setblocking(False)
        # No await here: nothing may come to the content before the pause.
        came = b"".join(iter(content.read_nowait, b""))
        transport.pause_reading()
    except BaseException:
        own.close()
        raise
    return came, SocketBody(own, length - content.total_bytes)


def scan(scanner: Scanner, chunks: Iterable[bytes]) -> Awaitable[list[bytes | memoryview]]:
    """Return what may be passed on of these ``chunks``; others have their turn in between.

    Metadata rows that take long are rewritten in a thread. Raises what the scanner raises.
    """
    if isinstance(scanner, Metadata):
        return _rewrite(scanner, chunks)
    return in_slices(piece or None for chunk in chunks for piece in scanner.steps(chunk))


async def _rewrite(scanner: Metadata, chunks: Iterable[bytes]) -> list[bytes | memoryview]:
    written: list[bytes] = []
    loop = asyncio.get_running_loop()
    batches = (rows for chunk in chunks for rows in scanner.rows(chunk))
    # One after the other: to free many rows takes time, too.
    while batch := await in_slices(islice(batches, 1)):
        for is_long, rows in groupby(batch[0], takes_long):
            if is_long:
                written += [
                    await loop.run_in_executor(_REWRITING, scanner.rewrite, row) for row in rows
                ]
            else:
                written += await in_slices(map(scanner.rewrite, rows))
    return [b"".join(written)] if written else []
