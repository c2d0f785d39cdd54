"""Places that a request holds until its answer is sent: until then the answer is in memory."""

import contextlib

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sidecar.web.transfer_timeout import LEAST_BYTES_PER_SECOND, send_whole

ANSWER_SECONDS = 60
"""Time in seconds for sending an answer, beside what its length takes at ``LEAST_BYTES_PER_SECOND``."""

_PLACES: web.RequestKey[contextlib.AsyncExitStack] = web.RequestKey(
    "places", contextlib.AsyncExitStack
)


async def hold_place(
    request: web.Request, place: contextlib.AbstractAsyncContextManager[None]
) -> None:
    """Enter ``place``, and leave it when the answer to ``request`` is sent.

    Raises what entering raises.
    """
    if _PLACES not in request:
        request[_PLACES] = contextlib.AsyncExitStack()
    await request[_PLACES].enter_async_context(place)


def give_places_back() -> Middleware:
    """Return a middleware that leaves the places of each request when its answer is sent."""

    @web.middleware
    async def hold(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
            if _PLACES in request:
                length = response.content_length or 0
                await send_whole(
                    request, response, seconds=ANSWER_SECONDS + length / LEAST_BYTES_PER_SECOND
                )
            return response
        finally:
            if _PLACES in request:
                await request[_PLACES].aclose()

    return hold
