"""Long answers: sent a piece at a time, and others have their turn in between."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

from aiohttp import hdrs, web

PIECE_BYTES = 262_144


def in_pieces(parts: Sequence[bytes], headers: Mapping[str, str]) -> web.Response:
    """Return the answer whose body are the ``parts``, with its Content-Length; sent in pieces."""
    length = sum(map(len, parts))
    if length <= PIECE_BYTES:
        return web.Response(body=b"".join(parts), headers=headers)
    return web.Response(body=_pieces(deque(parts)), headers={**headers, hdrs.CONTENT_LENGTH: str(length)})


async def _pieces(parts: deque[bytes]) -> AsyncIterator[bytes | memoryview]:
    """Join short parts and divide long ones; what was sent is freed, not all of it at the end."""
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
