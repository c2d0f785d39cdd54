"""Watch when certificates end, so that an alert comes in time."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

EVERY_SECONDS = 3_600
_CONNECT_SECONDS = 10


class Certificates:
    """Watch the certificates of servers and in files.

    ``servers`` has the URL and the file of trusted authorities (``None``: the system's) by name.
    ``files`` has PEM files by name.
    """

    def __init__(
        self,
        metrics: Metrics,
        servers: Mapping[str, tuple[str, Path | None]],
        files: Mapping[str, Path],
    ) -> None:
        self._metrics = metrics
        self._servers = {
            name: server for name, server in servers.items() if server[0].startswith("https:")
        }
        self._files = files
        if files:  # 9 MB and 50 ms: neither without files, nor while requests wait.
            from cryptography import x509  # noqa: PLC0415

            self._certificates_in = x509.load_pem_x509_certificates

    async def watch(self) -> None:
        """Update the metrics now and each hour, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Update the metrics. A certificate that cannot be read keeps its last value.

        There is no connection to a server whose certificate has ended.
        """
        for name, seconds in (await self.ends()).items():
            self._metrics.certificate_expiry.labels(name).set(seconds)

    async def ends(self) -> dict[str, float]:
        """Return when the readable certificates end, in seconds since 1970."""
        ends: dict[str, float] = {}
        for name, (url, authorities) in self._servers.items():
            with contextlib.suppress(OSError, ValueError, TimeoutError, KeyError):
                ends[name] = await _end_at(url, authorities)
        for name, file in self._files.items():
            with contextlib.suppress(OSError, ValueError):
                chain = self._certificates_in(file.read_bytes())
                ends[name] = min(each.not_valid_after_utc for each in chain).timestamp()
        return ends


async def _end_at(url: str, authorities: Path | None) -> float:
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=authorities)
    async with asyncio.timeout(_CONNECT_SECONDS):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    try:
        certificate = writer.get_extra_info("peercert") or {}
        return ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    finally:
        writer.transport.abort()
