"""Send long answers a piece at a time, so that other requests have their turn in between.

They are compressed for clients that accept gzip. The length of a compressed answer betrays
something of its text (BREACH), but nobody can use it: a page of another origin has no token to ask
with (there are no cookies), and no answer contains the token.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

Pieces = list[bytes | memoryview]

PIECE_BYTES = 262_144
LEAST_COMPRESSED_BYTES = 16_384
"""Shorter answers are not worth the compression."""
_THREAD_BYTES = 1_024
"""Longer pieces are compressed in a thread."""
_UNCOPIED_BYTES = 65_536
"""Shorter writes are joined by aiohttp."""
# A weight that is not 0, or none.
_WEIGHT = re.compile(r"|q\s*=\s*(?:1(?:\.0{0,3})?|0?\.(?!0{1,3}$)[0-9]{1,3})", re.ASCII)


def in_pieces(
    parts: Sequence[bytes], headers: Mapping[str, str], *, gzip: bool = False
) -> web.Response:
    """Return an answer that sends ``parts`` in pieces, compressed if ``gzip`` and long enough."""
    length = sum(map(len, parts))
    if length <= PIECE_BYTES:
        response = web.Response(
            body=b"".join(parts), headers=headers, zlib_executor_size=_THREAD_BYTES
        )
    else:
        headers = CIMultiDict(headers)
        headers[hdrs.CONTENT_LENGTH] = str(length)  # aiohttp takes it from what is compressed.
        response = web.Response(body=_pieces(deque(parts)), headers=headers)
    if gzip and length >= LEAST_COMPRESSED_BYTES:
        response.enable_compression(web.ContentCoding.gzip)
    return response


def accepts_gzip(request: web.Request) -> bool:
    """Return whether the client accepts gzip (RFC 9110 12.5.3) and bodies of unknown length."""
    weights: dict[str, bool] = {}
    for line in request.headers.getall(hdrs.ACCEPT_ENCODING, ()):
        for coding in line.lower().split(","):
            name, _, parameter = coding.partition(";")
            weights[name.strip()] = _WEIGHT.fullmatch(parameter.strip()) is not None
    return request.version >= HttpVersion11 and weights.get("gzip", weights.get("*", False))


async def _pieces(parts: deque[bytes]) -> AsyncIterator[bytes | memoryview]:
    """Join short parts and divide long ones. Each part is freed when it was sent."""
    while parts:
        part = memoryview(parts.popleft())
        if len(part) < PIECE_BYTES:
            joined = bytearray(part)
            while parts and len(joined) + len(parts[0]) <= PIECE_BYTES:
                joined += parts.popleft()
            yield bytes(joined)
            await asyncio.sleep(0)
            continue
        for start in range(0, len(part), PIECE_BYTES):
            yield part[start : start + PIECE_BYTES]
            await asyncio.sleep(0)


async def write_pieces(writer: AbstractStreamWriter, pieces: Pieces, *, uncopied: bool) -> int:
    """Write the next pieces of a body; return their length in bytes.

    Waits while the client is slow. Raises ``ConnectionError`` when it has left.

    ``uncopied``: hand long pieces to the event loop as they are. aiohttp itself joins each with its
    chunk's length, on some versions of Python, and waits behind each. It has to write the first
    pieces, with which the head leaves, and whatever is compressed.
    """
    size, transport = sum(map(len, pieces)), writer.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has left")
    is_chunked = getattr(writer, "chunked", False)
    # The rest of the Content-Length. aiohttp cuts off what is longer.
    left: int = getattr(writer, "length", None) or 0
    # uvloop takes many buffers as they are; asyncio's own transports would join them.
    takes_many = type(transport).__module__.startswith("uvloop")
    is_long = size >= _UNCOPIED_BYTES
    if not (uncopied and takes_many and is_long and (is_chunked or size <= left)):
        for piece in pieces:
            await writer.write(piece)
        return size
    if is_chunked:
        transport.writelines((b"%x\r\n" % size, *pieces, b"\r\n"))
    else:
        transport.writelines(pieces)
        writer.length = left - size
    writer.output_size += size
    await writer.drain()
    return size
