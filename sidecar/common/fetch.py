"""Requests for small JSON answers: bounded in bytes and seconds, redirects never followed."""

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
"""JSON up to this size is read at once."""


class FetchFailed(Exception):
    """No usable answer came.

    ``reason`` is a constant for logs and metrics, ``detail`` another that says more to operators
    (``dns``, ``status 404``); neither is text of the peer.
    """

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FetchedResponse:
    """A whole answer: ``status``, ``headers`` (looked up in any case, several of a name), ``body`` in bytes."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON (fast). Raises ``FetchFailed('not_json')``."""
        try:
            return orjson.loads(self.body)
        except ValueError:
            raise FetchFailed("not_json") from None

    def strict_json_object(self) -> dict[str, Any]:
        """The body as a JSON object in which no name stands twice. Raises ``FetchFailed``.

        Two parsers may pick different ones of two equal names; what a permission rests on must have
        one reading.
        """
        return strict_json_object(self.body)

    async def read(self, reader: Callable[["FetchedResponse"], T]) -> T:
        """Return what ``reader`` makes of the answer.

        A large one in a thread, which gives way to the event loop.

        For readers by ``strict_json_object``, which is Python code at each object. Raises what the
        reader raises.
        """
        return (
            reader(self) if len(self.body) <= SMALL_BYTES else await asyncio.to_thread(reader, self)
        )


def strict_json_object(body: bytes) -> dict[str, Any]:
    """``body`` as a JSON object in which no name stands twice. Raises ``FetchFailed``.

    JSON between systems is UTF-8 without a byte order mark (RFC 8259 section 8.1). Given bytes,
    ``json`` would guess UTF-16 and UTF-32, which the next parser of the same bytes may not.
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
    ssl_context: Any = True,
    name: str = "request",
    take: Callable[[bytes], Awaitable[None]] | None = None,
) -> FetchedResponse:
    """Send one request and read its whole answer. ``form``: a form's fields, or a body as it is.

    ``name``: of its span, a constant that begins with the peer's. ``take``: gets the body of a 200
    piece by piece, as it comes; then the ``FetchedResponse`` has none. What comes compressed all the same is
    decompressed; ``limit_bytes`` holds for the result, too. Raises ``FetchFailed`` with
    ``timeout``, ``unreachable``, ``too_large`` or ``encoded``, or as ``take`` does; any status is
    an ``FetchedResponse``.
    """
    with span(name, "client") as step:
        step.set("http.request.method", method)
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                session.request(
                    method,
                    url if isinstance(url, URL) else URL(url, encoded=True),
                    # The session does not decompress: nothing compressed is asked for.
                    headers={"Accept-Encoding": "identity", **(headers or {}), **trace_headers()},
                    data=form,
                    allow_redirects=False,
                    ssl=ssl_context,
                    # The session's own total would end what may take longer.
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
    """The body's pieces, decompressed.

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
        if came > limit_bytes:  # What is compressed may become nothing.
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
    """Return a constant for what kept us from a peer, ``None`` for nothing in particular.

    Never its address.
    """
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
