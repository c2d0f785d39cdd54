"""Whether http and https are mixed up in a URL: the port is asked, without any credentials."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from enum import Enum
from urllib.parse import SplitResult, urlsplit

from sidecar.bootstrap.context import open_session
from sidecar.check.names import FindingName
from sidecar.check.outcome import CheckOutcome
from sidecar.common.fetch import FetchFailed, fetch
from sidecar.conformance.finding import State
from sidecar.settings.document import Settings

_SECONDS = 5
_LIMIT_BYTES = 65_536
_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

URLS: Mapping[FindingName, Callable[[Settings], str | None]] = {
    "ehr.smart_configuration": lambda settings: settings.ehr.fhir_url,
    "tokens.jwt": lambda settings: settings.tokens.jwt.jwks_url,
    "tokens.introspection": lambda settings: settings.tokens.introspection.url,
    "patients.mapping": lambda settings: settings.ehr.fhir_url,
    "access.clients": lambda settings: settings.ehr.fhir_url,
    "access.external": lambda settings: settings.access.external.url,
    "pacs.query": lambda settings: settings.pacs.url,
    "pacs.changes_url": lambda settings: settings.pacs.changes_url,
    "audit.repository": lambda settings: settings.audit.repository.url,
    "tokens.cache.url": lambda settings: settings.tokens.cache.url,
    "tracing.endpoint": lambda settings: settings.tracing.endpoint,
}
"""The URL in the settings that a check asks, by the check's name."""


async def with_hints(
    outcomes: Mapping[FindingName, CheckOutcome], settings: Settings
) -> dict[FindingName, CheckOutcome]:
    """Return the outcomes, with another hint where a check failed by the scheme of its URL."""
    hinted = dict(outcomes)
    for name, url_in in URLS.items():
        outcome, url = outcomes.get(name), url_in(settings)
        if outcome is None or url is None or outcome.state is not State.FAIL:
            continue
        if hint := await _mixed_up(url):
            hinted[name] = outcome._replace(hint=hint)
    return hinted


async def _mixed_up(url: str) -> str | None:
    """Return what to do about the scheme of ``url``, ``None`` if it is right or nobody can say."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:  # A socket in the file system.
        return None
    plain = await (_asked_redis if parts.scheme.startswith("redis") else _asked_http)(parts)
    if plain is _Plain.REDIRECTS and parts.scheme == "http":
        return "It redirects to https, and redirects are not followed: write https:// here."
    has_tls = await _speaks_tls(parts)
    if parts.scheme in ("https", "rediss"):
        if has_tls or plain in (_Plain.SILENT, _Plain.REFUSES):
            return None
        other = parts.scheme[:-1]
        return (
            f"It speaks {other}, without TLS: is it the right port? With {other}:// all that is "
            "sent can be read on its way."
        )
    if not has_tls or plain is _Plain.SPEAKS:
        return None
    return f"It speaks TLS at this port: write {parts.scheme}s:// here."


class _Plain(Enum):
    """What a port answers without TLS. ``REFUSES``: what a port for TLS may answer as well."""

    SPEAKS = 1
    REDIRECTS = 2
    REFUSES = 3
    SILENT = 4


async def _asked_http(parts: SplitResult) -> _Plain:
    netloc = parts.netloc if parts.port else f"{parts.netloc}:{_port(parts)}"
    url = parts._replace(scheme="http", netloc=netloc).geturl()
    try:
        async with open_session(None, connections=1) as session:
            answer = await fetch(
                session, "GET", url, limit_bytes=_LIMIT_BYTES, timeout_seconds=_SECONDS
            )
    except FetchFailed as failed:
        return _Plain.SPEAKS if failed.reason in ("too_large", "encoded") else _Plain.SILENT
    if answer.status in _REDIRECTS and _is_https(answer.headers.get("Location", "")):
        return _Plain.REDIRECTS
    return _Plain.REFUSES if answer.status == 400 else _Plain.SPEAKS


def _is_https(location: str) -> bool:
    return location.lower().startswith("https:")


async def _asked_redis(parts: SplitResult) -> _Plain:
    """Send ``PING``. The answer is ``+PONG``, or an error such as ``-NOAUTH``."""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, _port(parts))
            try:
                writer.write(b"PING\r\n")
                return _Plain.SPEAKS if await reader.read(1) in (b"+", b"-") else _Plain.SILENT
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return _Plain.SILENT


async def _speaks_tls(parts: SplitResult) -> bool:
    """Return whether a TLS handshake comes as far as a certificate. None is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        async with asyncio.timeout(_SECONDS):
            await asyncio.open_connection(parts.hostname, _port(parts), ssl=context)
    except ssl.SSLCertVerificationError:
        return True
    except (OSError, TimeoutError):
        return False
    return False


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]
