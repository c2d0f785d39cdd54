"""The smallest aiohttp proxy that streams: python -m bench.bare_proxy PORT UPSTREAM."""

import sys

import aiohttp
import uvloop
from aiohttp import web


def main(port: int, upstream: str) -> None:
    async def forward(request: web.Request) -> web.StreamResponse:
        async with request.app["session"].get(upstream + request.path_qs) as answer:
            response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    async def session(app: web.Application):  # type: ignore[no-untyped-def]
        async with aiohttp.ClientSession(
            auto_decompress=False,
            read_bufsize=2**18,
            connector=aiohttp.TCPConnector(limit=0),
        ) as app["session"]:
            yield

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_get("/{tail:.*}", forward)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
