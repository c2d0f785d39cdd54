"""Long answers, a piece at a time: the same bytes and headers as at once."""

import aiohttp
import pytest
from aiohttp import web

from sidecar.server.listener import listen
from sidecar.web.pieces import PIECE_BYTES, in_pieces


def parts(body: bytes) -> list[bytes]:
    """Short ones, and a long one behind them."""
    begin = min(len(body) // 3, 40_000)
    return [
        *(body[start : start + 100] for start in range(0, begin, 100)),
        body[-(-begin // 100) * 100 :],
    ]


@pytest.mark.parametrize("length", [1, PIECE_BYTES, PIECE_BYTES + 1, 9 * PIECE_BYTES + 7])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_all_of_it_comes(length: int, method: str) -> None:
    body = bytes(range(256)) * (length // 256 + 1)

    async def handler(request: web.Request) -> web.StreamResponse:
        return in_pieces(
            parts(body[:length]), {"Content-Type": "application/dicom+json", "ETag": '"x"'}
        )

    app = web.Application()
    app.router.add_get("/", handler)
    async with listen(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as us:
        for _ in range(2):  # On one connection: the end is where the length says.
            async with us.request(method, f"http://127.0.0.1:{port}/") as answer:
                assert await answer.read() == (b"" if method == "HEAD" else body[:length])
                assert answer.headers["Content-Length"] == str(length)
                assert answer.headers["Content-Type"] == "application/dicom+json"
                assert answer.headers["ETag"] == '"x"'
                assert "Transfer-Encoding" not in answer.headers
