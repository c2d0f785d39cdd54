"""Read an answer of the PACS whose head and first bytes have come, chunk by chunk."""

import asyncio
from collections.abc import Iterator

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.common.content_coding import decoder_for
from sidecar.pacs.socket_body import SocketBody, take_over

_ENCODED_BODY_HEADERS = (
    "Content-Encoding",
    "Content-Length",
    "ETag",
    "Accept-Ranges",
    "Content-MD5",
    "Digest",
)


class Upstream:
    """An answer of the PACS: ``status``, ``headers`` and a body to ``read``.

    ``idle_seconds``: longest silence that its reader allows the body. ``chunked``: whether chunks,
    or the length of a compressed body, mark the body's end. ``expected``: how many instances the
    archive counted just before the request (``None``: not counted).

    A compressed body (``decoder_for``) is decompressed; the header lines about the compressed body
    are left out.
    """

    def __init__(self, response: aiohttp.ClientResponse, *, idle_seconds: float) -> None:
        self._response = response
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
            self._first = await self._next()
        except (aiohttp.ClientError, OSError) as failure:
            self._failure = failure

    async def read(self) -> list[bytes]:
        """Return the next bytes of the body, in the pieces in which they came; none at its end.

        Raises ``aiohttp.ClientError`` (also ``Undecodable``) or ``OSError`` for a body that breaks
        off. The caller bounds the silence: it needs one timer for a whole transfer.
        """
        if self._decoder is None:
            return await self._read_raw()
        while True:
            for piece in self._steps:
                await asyncio.sleep(0)  # Other requests have their turn between two steps.
                if piece:
                    return [piece]
            pieces = await self._read_raw()
            if not pieces:
                self._decoder.end()
                return []
            self._steps = self._decoder.steps(b"".join(pieces))

    async def _read_raw(self) -> list[bytes]:
        """Return the next bytes, not decompressed."""
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
            # Archives write chunks of some kilobytes: longer steps save more than a copy costs.
            data = await content.readany()
            return [data] if data else []
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

    def close(self) -> None:
        """Close the connection unless the body was read to its end."""
        if self._rest is not None:
            self._rest.close()
        self._response.close()


def _decoded(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """Return the header lines that hold for the decompressed body."""
    kept = CIMultiDict(headers)
    for name in _ENCODED_BODY_HEADERS:
        kept.popall(name, None)
    return CIMultiDictProxy(kept)
