"""An opened answer of the PACS: its head and the first bytes of its body have come, the rest is read chunk by chunk."""

import asyncio
from collections.abc import Iterator

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.common.content_coding import decoder_for
from sidecar.pacs.socket_body import SocketBody, take_over

_OF_ENCODED = (
    "Content-Encoding",
    "Content-Length",
    "ETag",
    "Accept-Ranges",
    "Content-MD5",
    "Digest",
)
"""Header lines that are about the compressed body."""


class Upstream:
    """``status`` and ``headers`` of the answer.

    ``idle_seconds``: longest silence that its reader allows the body.

    ``chunked``: whether the body's end is told by chunks, or by the length of a compressed body.
    ``expected``: how many instances the archive had just before the answer was asked for, ``None``:
    not counted.

    A body that comes compressed (``decoder_for``) is decompressed, and has no header line of what
    it was.
    """

    def __init__(self, response: aiohttp.ClientResponse, *, idle_seconds: float) -> None:
        self._response = response
        # A range is one of the compressed body: it cannot be decompressed.
        self._decoder = decoder_for(response.headers) if response.status == 200 else None
        self._headers = response.headers if self._decoder is None else _decoded(response.headers)
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

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The header lines."""
        return self._headers

    async def begin(self) -> None:
        """Wait for the first bytes of the body, however long.

        ``read`` returns them, or raises what kept them.
        """
        try:
            self._first = await self._next()
        except (aiohttp.ClientError, OSError) as failure:
            self._failure = failure

    async def read(self) -> list[bytes]:
        """Return the next bytes of the body, in the pieces in which they came; none at its end.

        Raises ``aiohttp.ClientError`` (also ``Undecodable``) or ``OSError`` for a body that breaks
        off. Silence is the caller's to bound: it can do that for a whole transfer with one timer.
        """
        if self._decoder is None:
            return await self._came()
        while True:
            for piece in self._steps:
                await asyncio.sleep(0)  # Others have their turn between two steps.
                if piece:
                    return [piece]
            came = await self._came()
            if not came:
                self._decoder.end()
                return []
            self._steps = self._decoder.steps(b"".join(came))

    async def _came(self) -> list[bytes]:
        """Return the next bytes as they come."""
        if self._failure is not None:
            raise self._failure
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._next()

    async def _next(self) -> list[bytes]:
        if self._rest is None and not self._is_chunked and (taken := take_over(self._response)):
            came, self._rest = taken
            if came:
                return [came]
        if self._rest is not None:
            data = await self._rest.read()
            return [data] if data else []
        content = self._response.content
        if self._is_chunked:
            # Archives write chunks of some kilobytes, and fewer, longer steps cost less than a copy
            # does.
            data = await content.readany()
            return [data] if data else []
        pieces: list[bytes] = []
        while not pieces or self._taken < content.total_bytes:
            try:
                data, ends_chunk = await content.readchunk()
            except (
                RuntimeError
            ):  # aiohttp's word for a connection that was gone before it was asked for more.
                raise aiohttp.ClientPayloadError("the connection is gone") from None
            if data:
                self._taken += len(data)
                pieces.append(data)
            # aiohttp's one empty body, of every 204, says again and again that a chunk of it ended.
            elif not ends_chunk or content.at_eof():
                break
        return pieces

    def close(self) -> None:
        """Close the connection unless the body was read to its end: the PACS stops at once."""
        if self._rest is not None:
            self._rest.close()
        self._response.close()


def _decoded(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """Return the header lines that are true of the decompressed body."""
    kept = CIMultiDict(headers)
    for name in _OF_ENCODED:
        kept.popall(name, None)
    return CIMultiDictProxy(kept)
