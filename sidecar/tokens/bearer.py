"""The access token in a request's Authorization header (RFC 6750 section 2.1)."""

import re
from collections.abc import Sequence

MAXIMUM_LENGTH = 8_183
"""Limit in bytes of a token: with ``Bearer`` and a space it fills the longest header."""

_CREDENTIALS = re.compile(r"bearer +(?P<token>[A-Za-z0-9\-._~+/]+=*)", re.ASCII | re.IGNORECASE)


class MalformedCredentials(ValueError):
    """The Authorization header is not exactly one well-formed bearer token."""


def bearer_token(authorization: Sequence[str]) -> str | None:
    """Return the token in the values of the Authorization header, ``None`` without any.

    Raises ``MalformedCredentials`` for two headers, another scheme, or anything after the token: a
    peer might use the other of two credentials.
    """
    if not authorization:
        return None
    if len(authorization) > 1:
        raise MalformedCredentials("more than one Authorization header")
    match = _CREDENTIALS.fullmatch(authorization[0])
    if match is None or len(match["token"]) > MAXIMUM_LENGTH:
        raise MalformedCredentials("not one bearer token")
    return match["token"]
