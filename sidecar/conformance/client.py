"""The HTTP client of the checks: bounded in time and bytes, without redirects.

It sends the token to the server's own addresses alone.
"""

import asyncio
import copy
import errno
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from yarl import URL

from sidecar.conformance.levels import NoAnswer, NotTested, Violated
from sidecar.conformance.response import FHIR_JSON, Response

_CHUNK_BYTES = 2**16
_TOKEN_BYTES = 16
"""Shortest token that is searched for in answers. A shorter one can be there by chance."""
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_RETRY_AFTER = re.compile(r"[0-9]{1,9}", re.ASCII)


def is_token(text: str) -> bool:
    """Return whether ``text`` may stand behind ``Bearer`` (RFC 6750 2.1)."""
    return _BEARER_TOKEN.fullmatch(text) is not None


def _origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port. Raises ``Violated``."""
    try:
        parsed = URL(url, encoded=True)
        return parsed.scheme, (parsed.host or "").lower(), parsed.port
    except ValueError:
        raise Violated("an address that is no URL") from None


def is_base(url: str) -> bool:
    """Return whether a FHIR base can be at this URL."""
    try:
        parsed = URL(url)
    except ValueError:
        return False
    extra = parsed.query_string or parsed.fragment or parsed.user or parsed.password or "?" in url
    is_http = parsed.scheme in ("http", "https") and bool(parsed.host)
    return is_http and not extra and url.isprintable()


def _reason(error: Exception) -> str:
    """Return why the server was not reached. The error's own text would contain its address."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ": the name does not resolve (dns)"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            ": its certificate is not trusted here (tls_untrusted); "
            "SSL_CERT_FILE names the file of a CA of your own"
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return ": TLS failed (tls)"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return ": it closed the connection (disconnected)"
    name = errno.errorcode.get(getattr(error, "errno", None) or 0)
    return f": {name}" if name else ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a run.

    - ``seconds``, ``answer_bytes``: limits of an answer, which is read no further
    - ``retrieval_seconds``, ``retrieval_bytes``: limits of an answer with images
    - ``overall_seconds``: limit of the run, after which nothing more is requested
    - ``silences``: limit of consecutive requests without an answer, with the same effect
    - ``pages``: limit of the pages of a search
    - ``repeats``, ``repeat_seconds``: limits of the repeats after a 503, and of the wait for each
    """

    seconds: float = 15
    retrieval_seconds: float = 60
    overall_seconds: float = 600
    answer_bytes: int = 8 * 2**20
    retrieval_bytes: int = 32 * 2**20
    pages: int = 20
    repeats: int = 5
    repeat_seconds: float = 10
    silences: int = 3


@dataclass
class Record:
    """Observations on all answers of a run.

    - ``refusals``: the request (address and form) and the body of each error
    - ``token_seen``: whether an answer had the token in it
    - ``waits``: for each 503 whether images were requested, and whether it had Retry-After
    - ``public``: whether an answer to a request with a token had Cache-Control: public
    - ``was_reached``: whether anything answered
    - ``silences``: how many of the last requests in a row had no answer
    """

    refusals: list[tuple[str, bytes]] = field(default_factory=list)
    token_seen: bool = False
    waits: list[tuple[bool, bool]] = field(default_factory=list)
    public: bool = False
    was_reached: bool = False
    silences: int = 0


class Client:
    """HTTP client with a token. ``base`` is the FHIR base without a trailing slash."""

    def __init__(
        self, session: aiohttp.ClientSession, base: str, token: str | None, limits: Limits
    ) -> None:
        self._session = session
        self._token = token
        self._trusted = {_origin(base)}
        self._untrusted: set[str] = set()
        self._ends = time.monotonic() + limits.overall_seconds
        self.base = base
        self.limits = limits
        self.record = Record()

    @property
    def has_token(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def holding(self, token: str) -> Self:
        """Return a client of the same run that sends another token."""
        other = copy.copy(self)
        other._token = token  # noqa: SLF001 - of this class
        return other

    def trust_without_token(self, address: str) -> None:
        """Send no token below an Endpoint's address, whose URL is the permission (2026-08)."""
        self._untrusted.add(address)

    def trust(self, address: str) -> None:
        """Allow the token at an Endpoint's address, as an app would; not at http below https.

        Raises ``Violated``.
        """
        origin = _origin(address)
        if origin[0] != "https" and all(scheme == "https" for scheme, _, _ in self._trusted):
            raise Violated(
                "the Endpoint's address is not https, the FHIR base is: the token was not sent "
                "there"
            )
        self._trusted.add(origin)

    async def request(
        self,
        url: str,
        *,
        method: str = "GET",
        token: bool = True,
        accept: str = FHIR_JSON,
        headers: Mapping[str, str] | None = None,
        form: str | None = None,
        images: bool = False,
    ) -> Response:
        """Send a request, and again after a 503 or 429 with Retry-After; return the last answer.

        ``url`` is sent unchanged, ``form`` is a form-encoded body. ``images``: use the limits of
        retrievals. Raises ``NoAnswer``; ``NotTested`` when too many requests had no answer;
        ``Violated`` when the token would go to another server.
        """
        sent = {"Accept": accept, "Accept-Encoding": "identity", **(headers or {})}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        if token and not url.startswith(tuple(self._untrusted)):
            sent["Authorization"] = self._authorization(url)
        for repeat in range(self.limits.repeats + 1):
            answer = await self._once(url, method, sent, form, images=images)
            wait = answer.headers.get("Retry-After", "")
            if answer.status not in (429, 503):
                break
            has_seconds = _RETRY_AFTER.fullmatch(wait) is not None
            if answer.status == 503:
                self.record.waits.append(("/studies" in url, has_seconds))
            if not has_seconds or repeat == self.limits.repeats:
                break
            await asyncio.sleep(min(float(wait), self.limits.repeat_seconds))
        self._note(url + (form or ""), answer, with_token=token)
        return answer

    def _authorization(self, url: str) -> str:
        if self._token is None:
            raise NotTested("no --token was given")
        if _origin(url) not in self._trusted:
            raise Violated("an address leads to another server: the token was not sent there")
        return f"Bearer {self._token}"

    async def _once(
        self, url: str, method: str, headers: Mapping[str, str], form: str | None, *, images: bool
    ) -> Response:
        if self.record.silences >= self.limits.silences:
            raise NotTested(f"{self.record.silences} requests in a row had no answer")
        if time.monotonic() > self._ends:
            raise NotTested(f"the limit of {self.limits.overall_seconds:g} s has passed")
        try:
            answer = await self._read(url, method, headers, form, images=images)
        except TimeoutError:
            self.record.silences += 1
            raise NoAnswer("no answer in time") from None
        except aiohttp.ClientPayloadError:
            self.record.was_reached = True
            raise NoAnswer("the answer broke off") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.record.silences += 1
            raise NoAnswer("no answer" + _reason(error)) from None
        self.record.silences = 0
        self.record.was_reached = True
        return answer

    async def _read(
        self, url: str, method: str, headers: Mapping[str, str], form: str | None, *, images: bool
    ) -> Response:
        limits = self.limits
        limit_bytes = limits.retrieval_bytes if images else limits.answer_bytes
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(
            total=limits.retrieval_seconds + limits.seconds,
            sock_connect=limits.seconds,
            sock_read=limits.retrieval_seconds if images else limits.seconds,
        )
        async with self._session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=form,
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            body, stopped = bytearray(), None
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > limit_bytes:
                    stopped = f"read no further than {limit_bytes / 2**20:g} MB"
                elif time.monotonic() - began > limits.retrieval_seconds:
                    stopped = f"read no longer than {limits.retrieval_seconds:g} s"
                if stopped is not None:
                    response.close()
                    break
            return Response(response.status, response.headers, bytes(body), stopped)

    def _note(self, request: str, answer: Response, *, with_token: bool) -> None:
        if answer.status >= 400:
            self.record.refusals.append((request, answer.body[:_CHUNK_BYTES]))
        elif with_token and "public" in answer.headers.get("Cache-Control", "").lower():
            self.record.public = True
        token = self._token or ""
        if len(token) >= _TOKEN_BYTES:
            in_headers = any(token in value for value in answer.headers.values())
            self.record.token_seen |= in_headers or token.encode() in answer.body


@asynccontextmanager
async def connected(base: str, token: str | None, limits: Limits) -> AsyncIterator[Client]:
    """Yield a client with a session of its own, without cookies and the environment's proxies."""
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "smart-imaging-conformance"}
    ) as session:
        yield Client(session, base, token, limits)
