"""Seal the validation of a token for a cache that others can read and write (docs/decisions/0048).

Nobody without the key can make an entry, move it to another token, or read in it who asks for whom.
"""

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.access.scopes import Grant, ScopeContext

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORMAT = b"smart-imaging-sidecar token answer 1"
_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """The validation of a token, as ``TokenCache`` has it.

    ``token``: its facts, ``None`` when it is not active. ``reason``: why it was rejected, if it
    was. ``asked_at``: when the authorization server was asked, in seconds since 1970.
    """

    token: Token | None
    reason: Reason | None
    asked_at: float


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """An answer, and the seconds for which the server would have kept it."""

    answer: SharedAnswer
    remaining_seconds: float


class AnswerSeal:
    """Name the entries of tokens, and seal and open them (AES-256-GCM).

    ``key``: the secret of all who share answers. ``scope``: what an answer depends on beside the
    token, as bytes. Entries of another key or scope have other names, and do not open. Each entry
    has a key of its own, so that the random nonces of all entries cannot meet.
    """

    def __init__(self, key: bytes, scope: bytes) -> None:
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - 7 MB
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        self._bound_to = _FORMAT + hashlib.sha256(scope).digest()
        derived = HKDF(SHA256(), 2 * _KEY_BYTES, salt=None, info=self._bound_to).derive(key)
        self._names, self._keys = derived[:_KEY_BYTES], derived[_KEY_BYTES:]

    def name(self, token: str) -> str:
        """Return the name of the token's entry: a keyed hash (HMAC-SHA-256), in hexadecimal."""
        return hmac.digest(self._names, token.encode(), "sha256").hex()

    def seal(self, name: str, answer: SharedAnswer) -> bytes:
        """Return the entry ``name``: a nonce and the ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(name).encrypt(nonce, _written(answer), self._associated(name))

    def unseal(self, name: str, sealed: bytes) -> SharedAnswer | None:
        """Return what was sealed for ``name``; ``None`` unless it is that, to the bit."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            opened = self._cipher(name).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._associated(name)
            )
        except (InvalidTag, ValueError):  # ValueError: a nonce that is too short.
            return None
        return _read(opened)

    def _cipher(self, name: str) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        return AESGCM(hmac.digest(self._keys, name.encode(), "sha256"))

    def _associated(self, name: str) -> bytes:
        return self._bound_to + name.encode()


def _written(answer: SharedAnswer) -> bytes:
    token = answer.token
    facts = None
    if token is not None:
        facts = {
            "grants": [
                [grant.context, grant.read, grant.search, grant.constraint]
                for grant in token.grants
            ],
            "expires_at": token.expires_at,
            "patient": token.patient,
            "client_id": token.client_id,
            "subject": token.subject,
            "issuer": token.issuer,
        }
    return json.dumps([answer.asked_at, answer.reason, facts], separators=(",", ":")).encode()


def _read(opened: bytes) -> SharedAnswer:
    """Return what ``_written`` wrote: the seal has the format's version."""
    asked_at, reason, facts = json.loads(opened)
    token = None
    if facts is not None:
        grants = tuple(
            Grant(ScopeContext(context), read, search, constraint)
            for context, read, search, constraint in facts.pop("grants")
        )
        token = Token(grants, **facts)
    return SharedAnswer(token, None if reason is None else Reason(reason), asked_at)
