"""Issuing and opening capability URLs (SIA-33, 50..54)."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.access.permits import Capability, Operation, token_hash
from sidecar.authorization.capability_seal import Sealer

PREFIX = "capability"
"""First segment of their paths."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An address for one study.

    ``root``: its DICOMweb root. ``expires_at``: in seconds since 1970.

    ``full_url`` names its Endpoint within one Bundle (SIA-33).
    """

    root: str
    expires_at: float
    full_url: str


class CapabilityUrls:
    """Seals and opens them for ``public_base``, our own URL. They are kept nowhere."""

    def __init__(
        self,
        sealer: Sealer,
        public_base: str,
        *,
        operations: frozenset[Operation],
        lifetime_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sealer = sealer
        self._public_base = public_base
        self._operations = operations
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock

    def issue(self, bearer: str, token_expires_at: float, patient: str, study: str) -> Issued:
        """Return an address for a study that the token ``bearer`` may fetch."""
        expires_at = min(self._clock() + self._lifetime_seconds, token_expires_at)
        capability = Capability(patient, study, self._operations, expires_at, token_hash(bearer))
        root = f"{self._public_base}/{PREFIX}/{self._sealer.seal(capability)}"
        return Issued(root, expires_at, f"urn:uuid:{uuid.uuid4()}")

    def unseal(self, sealed: str) -> Capability | None:
        """Return what was sealed, ``None`` when it is not ours."""
        return self._sealer.unseal(sealed)
