"""Parameters of OAuth requests, and OAuth errors as answers (RFC 6749 3.1, 5.2)."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

MAXIMUM_FIELDS = 100


class OAuthError(Exception):
    """Refusal with an OAuth error code. ``description`` is shown to the client."""

    def __init__(
        self, code: str, description: str, *, status: int = 400, basic: bool = False
    ) -> None:
        super().__init__(code)
        self.code = code
        self.description = description
        self.status = status
        self.basic = basic


async def read_form(request: web.Request) -> list[tuple[str, str]]:
    """Return the fields of an ``application/x-www-form-urlencoded`` body in order.

    Raises ``OAuthError``.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "The body must be application/x-www-form-urlencoded.")
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise OAuthError("invalid_request", "The body is too large.", status=413) from None
    try:
        return parse_fields(body.decode())
    except UnicodeDecodeError:
        raise OAuthError("invalid_request", "The body is not UTF-8.") from None


def parse_fields(text: str) -> list[tuple[str, str]]:
    """Return the fields of a query string or form.

    Raises ``OAuthError`` when the text is not UTF-8, or has too many fields.
    """
    try:
        return parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAXIMUM_FIELDS
        )
    except ValueError:
        raise OAuthError("invalid_request", "The parameters cannot be read.") from None


def single(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the fields as a mapping, without the empty ones.

    Raises ``OAuthError`` when a name stands twice.
    """
    values = dict(fields)
    if len(values) < len(fields):
        raise OAuthError("invalid_request", "A parameter stands more than once.")
    return {name: value for name, value in values.items() if value}


def require(fields: dict[str, str], name: str) -> str:
    """Return a field. Raises ``OAuthError`` when it is missing."""
    if name not in fields:
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    return fields[name]


def json_answer(
    body: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return a JSON answer (RFC 6749 5.1: never stored)."""
    answer = web.Response(
        body=orjson.dumps(body),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Pragma"] = "no-cache"
    return answer


def error_answer(error: OAuthError) -> web.Response:
    """Return the answer of the token and introspection endpoints to a request that they refuse."""
    headers = {"WWW-Authenticate": 'Basic realm="demo EHR"'} if error.basic else None
    body = {"error": error.code, "error_description": error.description}
    return json_answer(body, status=error.status, headers=headers)
