"""Answers that are long: a piece at a time goes to the connection, and others have their turn in between."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

PIECE_BYTES = 262_144


def in_pieces(body: bytes, headers: Mapping[str, str]) -> web.Response:
    """Return the answer with this body; a long one is sent in pieces of ``PIECE_BYTES``, with its Content-Length."""
    if len(body) <= PIECE_BYTES:
        return web.Response(body=body, headers=headers)
    response = web.Response(body=_pieces(body), headers=headers)
    response.content_length = len(body)
    return response


async def _pieces(body: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
        await asyncio.sleep(0)
