"""When do the certificates end that connections rest on? Looked at once an hour, so that an alert comes in time."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

EVERY_SECONDS = 3_600
_CONNECT_SECONDS = 10


class Certificates:
    """``servers``: name -> URL and the authorities to trust, PEM (``None``: the system's).

    ``files``: name -> PEM.
    """

    def __init__(
        self,
        metrics: Metrics,
        servers: Mapping[str, tuple[str, Path | None]],
        files: Mapping[str, Path],
    ) -> None:
        self._metrics = metrics
        self._servers = {name: one for name, one in servers.items() if one[0].startswith("https:")}
        self._files = files

    async def watch(self) -> None:
        """Look now and each hour, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Look once. What cannot be seen now keeps what was seen last: with one that is over there is no connection."""
        found = await self.ends()
        self._metrics.keep_certificates({*self._servers, *self._files})
        for name, seconds in found.items():
            self._metrics.certificate_expiry.labels(name).set(seconds)

    async def ends(self) -> dict[str, float]:
        """Return when those end that can be seen, in seconds since 1970."""
        found: dict[str, float] = {}
        for name, (url, authorities) in self._servers.items():
            with contextlib.suppress(OSError, ValueError, TimeoutError, KeyError):
                found[name] = await _end_at(url, authorities)
        for name, file in self._files.items():
            with contextlib.suppress(OSError, ValueError):
                ends = [
                    one.not_valid_after_utc
                    for one in x509.load_pem_x509_certificates(file.read_bytes())
                ]
                found[name] = min(ends).timestamp()
        return found


async def _end_at(url: str, authorities: Path | None) -> float:
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
    async with asyncio.timeout(_CONNECT_SECONDS):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    try:
        found = writer.get_extra_info("peercert") or {}
        return ssl.cert_time_to_seconds(str(found["notAfter"]))
    finally:
        writer.transport.abort()
