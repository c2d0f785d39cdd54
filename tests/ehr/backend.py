"""Keys of a backend client."""

import time
from collections.abc import Callable
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from sidecar.ehr.credentials import BackendServices
from tests.common.peer import Peer

RSA_KEY = rsa.generate_private_key(65_537, 2_048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    """PKCS#8."""
    protection = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    ).decode()


RSA_JWK, EC_JWK = RSAAlgorithm.to_jwk(RSA_KEY), ECAlgorithm.to_jwk(EC_KEY)


def backend(
    peer: Peer,
    session: aiohttp.ClientSession,
    *,
    clock: Callable[[], float] = time.time,
    **options: Any,
) -> BackendServices:
    """Backend Services at ``peer``."""

    async def endpoint() -> str:
        return f"{peer.url}/token"

    defaults: dict[str, Any] = {
        "client_id": "our client",
        "private_key": pem(EC_KEY),
        "key_id": "key-1",
        "algorithm": "ES384",
        "scope": "system/Patient.r",
        "timeout_seconds": 60,
    }
    return BackendServices(
        session, endpoint, **{"clock": clock, "monotonic": clock} | defaults | options
    )
