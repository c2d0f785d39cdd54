"""Requests for small responses, bounded in bytes and seconds. Redirects are not followed."""

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import orjson
from multidict import CIMultiDictProxy
from yarl import URL

from sidecar.common.content_coding import Undecodable, content_coding, decoder_for
from sidecar.common.spans import REASON, STATUS, Span, current_span, span, trace_headers

T = TypeVar("T")

CHUNK_BYTES = 65_536
CONNECT_SECONDS = 30
SMALL_BYTES = 32_768
"""Limit in bytes of JSON that is parsed on the event loop. Larger JSON is parsed in a thread."""


class FetchFailed(Exception):
    """No usable response came.

    ``reason`` is a constant for logs and metrics. ``detail`` is a constant with more detail for
    operators (``dns``, ``status 404``). Neither is text of the peer.
    """

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FetchedResponse:
    """A whole response. ``headers`` are looked up in any case; a name may have several."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON (fast). Raises ``FetchFailed('not_json')``."""
        try:
            return orjson.loads(self.body)
        except ValueError:
            raise FetchFailed("not_json") from None

    def strict_json_object(self) -> dict[str, Any]:
        """Return the body as ``strict_json_object`` does."""
        return strict_json_object(self.body)

    async def read(self, reader: Callable[["FetchedResponse"], T]) -> T:
        """Return ``reader(self)``, which runs in a thread for a large body.

        It is for readers by ``strict_json_object``, which runs Python code at each object. Raises
        what the reader raises.
        """
        return (
            reader(self) if len(self.body) <= SMALL_BYTES else await asyncio.to_thread(reader, self)
        )


def strict_json_object(body: bytes) -> dict[str, Any]:
    """Return ``body`` as a JSON object in which no name stands twice. Raises ``FetchFailed``.

    A permission may rest on it, so it must have one reading: parsers differ in which of two equal
    names they take. JSON between systems is UTF-8 without a byte order mark (RFC 8259 8.1). Given
    bytes, ``json`` would guess UTF-16 and UTF-32, which other parsers do not.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique_names, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise FetchFailed("not_json") from None
    if not isinstance(value, dict):
        raise FetchFailed("not_an_object")
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands twice")
    return names


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str | URL,
    *,
    limit_bytes: int,
    timeout_seconds: float,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | bytes | None = None,
    name: str = "request",
    take: Callable[[bytes], Awaitable[None]] | None = None,
) -> FetchedResponse:
    """Send one request, and return its whole response, whatever its status.

    ``form`` is a form's fields, or a body. ``name`` is that of the span: a constant that begins
    with the peer's name. ``take`` gets the body of a 200 piece by piece; then the response has
    none. A compressed body is decompressed, and ``limit_bytes`` bounds both forms.

    Raises ``FetchFailed`` with ``timeout``, ``unreachable``, ``too_large`` or ``encoded``, or what
    ``take`` raises.
    """
    with span(name, "client") as step:
        step.set("http.request.method", method)
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                session.request(
                    method,
                    url if isinstance(url, URL) else URL(url, encoded=True),
                    # The session does not decompress.
                    headers={"Accept-Encoding": "identity", **(headers or {}), **trace_headers()},
                    data=form,
                    allow_redirects=False,
                    # Without the session's total, timeout_seconds is the limit.
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                ) as response,
            ):
                step.set(STATUS, response.status)
                if response.status != 200:
                    take = None
                return FetchedResponse(
                    response.status, response.headers, await _whole(response, limit_bytes, take)
                )
        except TimeoutError:
            raise _failed(step, "timeout") from None
        except Undecodable as damaged:
            raise _failed(step, "encoded", damaged.reason.removeprefix("encoded_")) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed(step, "unreachable", why_unreachable(error)) from None


async def _whole(
    response: aiohttp.ClientResponse,
    limit_bytes: int,
    take: Callable[[bytes], Awaitable[None]] | None,
) -> bytes:
    body = bytearray()
    length = 0
    async for chunk in _decoded(response, limit_bytes):
        length += len(chunk)
        if length > limit_bytes:
            raise _failed(current_span(), "too_large")
        if take is None:
            body += chunk
        else:
            await take(chunk)
    return bytes(body)


async def _decoded(response: aiohttp.ClientResponse, limit_bytes: int) -> AsyncIterator[bytes]:
    """Return the body's pieces, decompressed.

    Raises ``Undecodable``, ``FetchFailed`` (``encoded``, ``too_large``).
    """
    decoder, coding = decoder_for(response.headers), content_coding(response.headers)
    came = 0
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        if coding is None:
            yield chunk
            continue
        if decoder is None:
            raise _failed(current_span(), "encoded", coding)
        came += len(chunk)
        if came > limit_bytes:  # Compressed bytes may have no output.
            raise _failed(current_span(), "too_large")
        for piece in decoder.steps(chunk):
            yield piece
            await asyncio.sleep(0)
    if decoder is not None:
        decoder.end()


def _failed(step: Span, reason: str, detail: str | None = None) -> FetchFailed:
    step.set(REASON, reason if detail is None else f"{reason} ({detail})")
    return FetchFailed(reason, detail)


def why_unreachable(error: BaseException) -> str | None:
    """Return a constant for why a peer cannot be reached, ``None`` if it is not known."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "tls_untrusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "disconnected"
    number = getattr(getattr(error, "os_error", error), "errno", None)
    return errno.errorcode.get(number) if isinstance(number, int) else None
