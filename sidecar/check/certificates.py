"""Until when the certificates last that connections rest on: what ends soon stops everything then."""

import time
from datetime import UTC, datetime

from sidecar.bootstrap.certificates import certificates as watched
from sidecar.check.finding import ok, warning
from sidecar.conformance.finding import Finding
from sidecar.settings.document import Settings
from sidecar.telemetry.metrics import Metrics

SOON_SECONDS = 14 * 86_400
"""As the alert SmartImagingCertificateExpires has it."""


async def certificates(settings: Settings) -> list[Finding]:
    """One finding for each that can be seen.

    Those that cannot are found by whoever asks that server.
    """
    return [
        _judged(name, end)
        for name, end in (await watched(settings, Metrics("check")).ends()).items()
    ]


def _judged(name: str, end: float) -> Finding:
    text = f"until {datetime.fromtimestamp(end, UTC):%Y-%m-%d}"
    if end - time.time() > SOON_SECONDS:
        return ok(f"certificate.{name}", text)
    return warning(
        f"certificate.{name}", text, "Have it renewed: behind that day nothing connects."
    )
