"""The names by which the demo is asked what wants no token.

A site on the internet can give its own name the address of this machine (DNS rebinding). Its page
is then of our origin, but the browser still sends the site's name as Host. An address, and
``localhost``, are nobody's to give.
"""

import re
from ipaddress import ip_address

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::[0-9]+)?", re.ASCII)


def is_own_name(host: str, own: str) -> bool:
    """Return whether a Host header is an address, ``localhost`` or ``own``."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    if name in ("localhost", own.lower()):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def by_own_names(own: str) -> Middleware:
    """Return a middleware that refuses requests by other names than our own (421)."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_own_name(request.headers.get(hdrs.HOST, ""), own):
            raise web.HTTPMisdirectedRequest
        return await handler(request)

    return check
