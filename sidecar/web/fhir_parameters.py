"""Read the parameters of a FHIR search, in the URL and in the body of a POST."""

import asyncio

from aiohttp import web

from sidecar.common.errors import BadRequest, Problem
from sidecar.web.middleware import TARGET
from sidecar.web.target import form_parameters

BODY_SECONDS = 10
"""Time in seconds in which the body of a posted search has to come."""


class RequestTimeout(Problem):
    """408."""

    status = 408
    code = "timeout"


async def search_parameters(http: web.Request) -> list[tuple[str, str]]:
    """Return names and values. Raises ``BadRequest`` and ``RequestTimeout`` for the body."""
    parameters = http[TARGET].parameters()
    if http.method != "POST":
        return parameters
    if not http.body_exists or http.content_length == 0:
        return parameters
    if http.content_type != "application/x-www-form-urlencoded":
        raise BadRequest(
            "A search by POST has a body of application/x-www-form-urlencoded.", reason="bad_body"
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = (await http.read()).decode("ascii")
    except TimeoutError:
        raise RequestTimeout(
            "The body of the request did not come in time.", reason="slow_body"
        ) from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not form-encoded.", reason="bad_body") from None
    # Both count (R4 http.html#search): a body cannot take back what the query string demands.
    return parameters + form_parameters(body)
