"""The configuration of the demo's sidecar, as a hospital would write it, with its keys."""

import ipaddress
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from sidecar.demo.explain.guide import HOLD_MINUTES
from sidecar.demo.people import MRN_SYSTEM
from sidecar.demo.phantoms.studies import FOLLOW_UP, RESEARCH

INTROSPECTION_CLIENT_ID = "smart-imaging-sidecar"
BACKEND_CLIENT_ID = "smart-imaging-sidecar-backend"
KEY_ID = "demo"
BACKEND_KEY_FILE = "backend-key.pem"
CAPABILITY_KEYS_FILE = "capability-keys"
PATIENCE_SECONDS = 5
"""How long an app waits for a slow archive before it is asked to come back."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Addresses of the four listeners. ``sidecar`` is the first of their ports.

    ``host`` is that of sidecar and EHR. Archive and metrics are for this machine alone.
    """

    host: str
    sidecar: int

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach the sidecar and the EHR."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def inner_host(self) -> str:
        """The address of archive and metrics, which have no tokens."""
        return "127.0.0.1" if self.is_open else self.host

    @property
    def sidecar_url(self) -> str:
        """The sidecar's public URL."""
        return self._url(0)

    @property
    def ehr_url(self) -> str:
        """The EHR's base URL."""
        return self._url(1)

    @property
    def archive_url(self) -> str:
        """The archive's DICOMweb root."""
        return self._url(2, self.inner_host) + "/dicom-web"

    @property
    def admin(self) -> int:
        """The admin listener's port."""
        return self.sidecar + 3

    @property
    def beside_url(self) -> str:
        """The URL of a second sidecar, in the configuration that the demo writes."""
        return self._url(4)

    @property
    def metrics_url(self) -> str:
        """The URL of the metrics."""
        return self._url(3, self.inner_host) + "/metrics"

    def _url(self, offset: int, host: str | None = None) -> str:
        host = _own_address(self.host) if host is None else host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.sidecar + offset}"


def _own_address(host: str) -> str:
    """Return the address by which others reach ``host``, which may stand for all addresses.

    Then it is the one from which this machine would send to others. Nothing is sent for that.
    """
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        return host
    family, other = (
        (socket.AF_INET, "192.0.2.1") if host != "::" else (socket.AF_INET6, "2001:db8::1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other, 9))
        except OSError:  # There is no network.
            return "127.0.0.1" if host != "::" else "::1"
        return str(probe.getsockname()[0])


def make_capability_keys(file: Path) -> None:
    """Write a new key for capability URLs that only its owner can read."""
    file.touch(mode=0o600)
    file.write_text(f"{KEY_ID} {secrets.token_hex(32)}\n")


def make_key(file: Path) -> dict[str, object]:
    """Write a new private key (PEM) that only its owner can read; return the EHR's public JWKS."""
    key = ec.generate_private_key(ec.SECP384R1())
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = orjson.loads(ECAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": "ES384"}]}


def demo_document(ports: Ports, secret: str, scratch: Path, pacs: dict[str, str]) -> dict[str, Any]:
    """Return the configuration that a hospital would write for this EHR and this archive.

    ``scratch`` has the files with keys.
    """
    return {
        "server": {
            "host": ports.host,
            "port": ports.sidecar,
            "admin_host": ports.inner_host,
            "admin_port": ports.admin,
            "public_url": ports.sidecar_url,
        },
        "ehr": {"fhir_url": ports.ehr_url + "/fhir"},
        "tokens": {
            "client": {
                "method": "client_secret_basic",
                "client_id": INTROSPECTION_CLIENT_ID,
                "client_secret": secret,
            }
        },
        "patients": {
            "mapping": "ehr",
            "identifiers": [{"system": MRN_SYSTEM}],
            "client": {
                "method": "backend_services",
                "client_id": BACKEND_CLIENT_ID,
                "private_key_file": str(scratch / BACKEND_KEY_FILE),
                "key_id": KEY_ID,
                "algorithm": "ES384",
                "scope": "system/Patient.rs",
            },
        },
        "pacs": pacs,
        "access": {
            "rules": [
                {
                    "name": "new findings: the doctor talks first",
                    "effect": "hold",
                    "hours": HOLD_MINUTES / 60,
                    "study": {"StudyDescription": [FOLLOW_UP]},
                    "unknown": "ignored",
                },
                {
                    "name": "research",
                    "effect": "exclude",
                    "series": {"SeriesDescription": [RESEARCH]},
                    "unknown": "ignored",
                },
            ]
        },
        "capabilities": {
            "mode": "token_bound",
            "keys_file": str(scratch / CAPABILITY_KEYS_FILE),
        },
        "limits": {
            "defer_after_seconds": PATIENCE_SECONDS,
            # As long as an access token: the page is looked at for longer than five minutes.
            "capability_lifetime_seconds": 3_600,
        },
    }
