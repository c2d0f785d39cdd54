"""Checks of the certificates of our connections: none may expire soon."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from sidecar.bootstrap.telemetry import certificates as watched
from sidecar.check.names import FindingName
from sidecar.check.outcome import CheckOutcome, ok, warning
from sidecar.settings.document import Settings
from sidecar.telemetry.metrics import Metrics

NAMES: Mapping[str, FindingName] = {
    "ehr": "certificate.ehr",
    "pacs": "certificate.pacs",
    "policy": "certificate.policy",
    "audit_repository": "certificate.audit_repository",
    "client": "certificate.client",
}
"""The check's name for each certificate that is watched."""
SOON_SECONDS = 14 * 86_400
"""Seconds before the end in which there is a warning, as in SmartImagingCertificateExpires."""


async def certificates(settings: Settings) -> dict[FindingName, CheckOutcome]:
    """Return the outcome for each certificate that can be seen, by the check's name.

    A certificate that cannot be seen fails the check that connects to its server.
    """
    ends = await watched(settings, Metrics("check")).ends()
    return {NAMES[name]: _outcome(end) for name, end in ends.items()}


def _outcome(end: float) -> CheckOutcome:
    text = f"until {datetime.fromtimestamp(end, UTC):%Y-%m-%d}"
    if end - time.time() > SOON_SECONDS:
        return ok(text)
    return warning(text, "Have it renewed: after that day nothing connects.")
