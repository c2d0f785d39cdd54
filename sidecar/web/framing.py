"""Decide which request bodies are accepted, and after which request a connection ends.

Sources: RFC 9112 6 and 11.2, CWE-444.

aiohttp's compiled parser takes the last trailer field of a chunked request for the first header
field of the next request on that connection. A proxy may share that connection between several
clients.
"""

from collections.abc import Mapping

from aiohttp import HttpVersion, HttpVersion11, hdrs
from aiohttp.http_parser import RawRequestMessage

_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""No content is defined for the others (RFC 9110 9.3)."""


def is_refused(method: str, version: HttpVersion, headers: Mapping[str, str]) -> bool:
    """Return whether the body is one that the method does not need, or its end is unclear."""
    return is_coded(version, headers) or (method not in _METHODS_WITH_BODY and _has_body(headers))


def is_coded(version: HttpVersion, headers: Mapping[str, str]) -> bool:
    """Return whether the Transfer-Encoding leaves the end of the body unclear."""
    coding = headers.get(hdrs.TRANSFER_ENCODING)
    return coding is not None and (version < HttpVersion11 or coding.lower() != "chunked")


def is_last(message: RawRequestMessage) -> bool:
    """Return whether nothing may follow this request on its connection.

    A chunked request may have trailer fields. After an ``Upgrade`` or ``CONNECT``, which nothing
    here accepts, the parsers disagree where the next request begins.
    """
    headers = message.headers
    return (
        message.chunked
        or message.upgrade
        or message.method == hdrs.METH_CONNECT
        or hdrs.TRANSFER_ENCODING in headers
        or hdrs.UPGRADE in headers
        or is_refused(message.method, message.version, headers)
    )


def _has_body(headers: Mapping[str, str]) -> bool:
    # The parsers accept digits alone as Content-Length.
    return (
        hdrs.TRANSFER_ENCODING in headers or headers.get(hdrs.CONTENT_LENGTH, "0").strip("0") != ""
    )
