"""Issue and open capability URLs: capabilities that are sealed into addresses (SIA-33, 50..54)."""

import json
import os
import re
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sidecar.access.permits import Capability, Operation, token_hash

PREFIX = "capability"
"""First segment of their paths."""
MAXIMUM_LENGTH = 1_000
"""Characters of a sealed capability: it is one segment of a URL."""
KEY_BYTES = 32

_VERSION = 2
_NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9]{1,16}", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SealingKey:
    """``key_id`` stands readable in the address."""

    key_id: str
    secret: bytes

    def __post_init__(self) -> None:
        if not _KEY_ID.fullmatch(self.key_id) or len(self.secret) != KEY_BYTES:
            raise ValueError("a key is an id of letters and digits, and 32 bytes")


class Sealer:
    """Seals with the first of ``keys`` and opens with any (AES-256-GCM).

    ``audience``: our public URL, so that what another site, or a test system with the same keys,
    sealed opens nothing.
    """

    def __init__(self, keys: Sequence[SealingKey], audience: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 7 MB

        if not keys or len({key.key_id for key in keys}) < len(keys):
            raise ValueError("keys need different ids, and there must be one")
        self._keys = {key.key_id: AESGCM(key.secret) for key in keys}
        self._first = keys[0].key_id
        self._audience = audience

    def seal(self, capability: Capability) -> str:
        """Return the capability as ``<key id>.<base64url>``."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._keys[self._first].encrypt(
            nonce, _written(capability), self._bound_to(self._first)
        )
        return f"{self._first}.{urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def unseal(self, text: str) -> Capability | None:
        """Return the capability, ``None`` unless it is one of ours, to the letter."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        key_id, _, encoded = text.partition(".")
        key = self._keys.get(key_id)
        if key is None or len(text) > MAXIMUM_LENGTH or not _BASE64.fullmatch(encoded):
            return None
        try:
            sealed = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            if urlsafe_b64encode(sealed).rstrip(b"=").decode() != encoded:  # One spelling alone.
                return None
            opened = key.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound_to(key_id)
            )
        except (InvalidTag, ValueError):
            return None
        return _read(opened)

    def _bound_to(self, key_id: str) -> bytes:
        return f"smart-imaging-sidecar capability {_VERSION} {key_id} {self._audience}".encode()


def _written(capability: Capability) -> bytes:
    facts = [
        capability.patient,
        capability.study,
        sorted(capability.operations),
        capability.expires_at,
        capability.token_hash.hex(),
    ]
    return json.dumps(facts, separators=(",", ":")).encode()


def _read(opened: bytes) -> Capability:
    """Return what ``_written`` wrote: the seal has its version."""
    patient, study, operations, expires_at, token_hash = json.loads(opened)
    return Capability(
        patient, study, frozenset(map(Operation, operations)), expires_at, bytes.fromhex(token_hash)
    )


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
