"""A study on tape: the archive fetches it when it is asked for, and is silent for so long."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from sidecar.dicomweb.paths import Query, parse

ONLINE_SECONDS = 180.0
"""How long a fetched study stays on disk. Then the next one who asks waits again."""


def on_tape(study: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> Middleware:
    """Return a middleware that answers retrievals of ``study`` ``seconds`` after the first.

    Searches are answered at once, as the archive's database is no tape.
    """
    fetched_at = -float("inf")

    @web.middleware
    async def wait(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        nonlocal fetched_at
        resource = parse(request.match_info["path"].split("/"))
        if not isinstance(resource, Query) and resource.part.study == study:
            now = clock()
            if now > fetched_at + ONLINE_SECONDS:
                fetched_at = now + seconds
            await asyncio.sleep(max(0.0, fetched_at - now))
        return await handler(request)

    return wait
