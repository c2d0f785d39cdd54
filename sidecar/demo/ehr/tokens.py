"""Codes, access tokens and refresh tokens of the demo EHR, in memory and by their SHA-256."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import TLRUCache, TTLCache

CODE_SECONDS = 60
ACCESS_TOKEN_SECONDS = 3_600
OFFLINE_SECONDS = 30 * 86_400
ONLINE_SECONDS = 12 * 3_600
"""Lifetimes of refresh tokens for the scopes ``offline_access`` and ``online_access``."""
MAXIMUM_CODES = 10_000
MAXIMUM_TOKENS = 100_000
"""Limit of tokens. Beyond it the least recently used are evicted and count as inactive."""

_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}", re.ASCII)


class InvalidGrant(Exception):
    """The code or refresh token is unknown, expired, spent, or another client's (RFC 6749 5.2)."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who consented (a FHIR id), at what time, and the ``nonce`` that the app sent."""

    user: str
    at: int
    nonce: str | None


@dataclass(slots=True, eq=False)
class Authorization:
    """A person's consent for a client. ``revoked`` ends all tokens of the authorization."""

    client_id: str
    patient: str | None
    scope: str
    login: Login | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class AccessToken:
    """Access token. ``issued_at`` and ``expires_at`` are in seconds since 1970."""

    authorization: Authorization
    scope: str
    issued_at: int
    expires_at: int

    @property
    def scopes(self) -> list[str]:
        """The scopes as a list."""
        return self.scope.split()


@dataclass(slots=True, eq=False)
class _Code:
    authorization: Authorization
    redirect_uri: str
    code_challenge: str
    expires_at: float
    spent: bool = False


@dataclass(slots=True, eq=False)
class _RefreshToken:
    authorization: Authorization
    expires_at: float
    spent: bool = False


def _expiry(key: str, value: AccessToken | _RefreshToken, now: float) -> float:
    return value.expires_at


class TokenStore:
    """Store of codes and tokens. ``clock`` is in seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        # A spent code is stored as long as its access token, so that its replay can end the token.
        self._codes: TTLCache[str, _Code] = TTLCache(
            MAXIMUM_CODES, ttl=ACCESS_TOKEN_SECONDS, timer=clock
        )
        self._access: TLRUCache[str, AccessToken] = TLRUCache(
            MAXIMUM_TOKENS, ttu=_expiry, timer=clock
        )
        self._refresh: TLRUCache[str, _RefreshToken] = TLRUCache(
            MAXIMUM_TOKENS, ttu=_expiry, timer=clock
        )

    def issue(
        self,
        *,
        patient: str | None,
        scope: str,
        client_id: str = "demo-app",
        lifetime_seconds: int = ACCESS_TOKEN_SECONDS,
    ) -> str:
        """Return a new access token, as if a person had consented.

        ``scope`` is separated by spaces. With a lifetime of zero or less it has expired already.
        """
        return self.issue_for(
            Authorization(client_id, patient, scope), lifetime_seconds=lifetime_seconds
        )

    def issue_for(
        self,
        authorization: Authorization,
        *,
        scope: str | None = None,
        lifetime_seconds: int = ACCESS_TOKEN_SECONDS,
    ) -> str:
        """Return a new access token of an authorization. ``scope`` may be narrower than its own."""
        token, now = secrets.token_urlsafe(32), int(self.clock())
        self._access[_digest(token)] = AccessToken(
            authorization,
            authorization.scope if scope is None else scope,
            now,
            now + lifetime_seconds,
        )
        return token

    def find(self, token: str) -> AccessToken | None:
        """Return a live access token; ``None`` when it is unknown, expired or revoked."""
        access = self._access.get(_digest(token))
        if access is None or access.authorization.revoked or self.clock() >= access.expires_at:
            return None
        return access

    def revoke(self, token: str) -> None:
        """End an access token, if it is known."""
        self._access.pop(_digest(token), None)

    def end(self, token: str, *, client_id: str) -> None:
        """End what a client's access or refresh token belongs to, if it is known (RFC 7009)."""
        digest = _digest(token)
        issued = self._access.get(digest) or self._refresh.get(digest)
        if issued is not None and issued.authorization.client_id == client_id:
            issued.authorization.revoked = True

    def issue_code(
        self, authorization: Authorization, *, redirect_uri: str, code_challenge: str
    ) -> str:
        """Return an authorization code, good once and for 60 seconds.

        ``code_challenge`` is S256 (RFC 7636 4.2).
        """
        code = secrets.token_urlsafe(32)
        self._codes[_digest(code)] = _Code(
            authorization, redirect_uri, code_challenge, self.clock() + CODE_SECONDS
        )
        return code

    def spend_code(
        self, code: str, *, client_id: str, redirect_uri: str, code_verifier: str
    ) -> Authorization:
        """Return the authorization of a code. Raises ``InvalidGrant``.

        Any attempt spends the code. A second attempt revokes the authorization (RFC 6749 4.1.2).
        """
        issued = self._codes.get(_digest(code))
        if issued is None:
            raise InvalidGrant("The code is unknown or has expired.")
        if issued.spent:
            issued.authorization.revoked = True
            raise InvalidGrant("The code was used before. What it gave is revoked.")
        issued.spent = True
        if self.clock() >= issued.expires_at:
            raise InvalidGrant("The code has expired.")
        if issued.authorization.client_id != client_id or issued.redirect_uri != redirect_uri:
            raise InvalidGrant("The code was given to another client_id or redirect_uri.")
        if not _is_verified(issued.code_challenge, code_verifier):
            raise InvalidGrant("The code_verifier is not the one of this code.")
        return issued.authorization

    def issue_refresh_token(self, authorization: Authorization) -> str | None:
        """Return a refresh token; ``None`` without ``offline_access`` and ``online_access``."""
        scopes = authorization.scope.split()
        if not {"offline_access", "online_access"} & set(scopes):
            return None
        lifetime = OFFLINE_SECONDS if "offline_access" in scopes else ONLINE_SECONDS
        token = secrets.token_urlsafe(32)
        self._refresh[_digest(token)] = _RefreshToken(authorization, self.clock() + lifetime)
        return token

    def spend_refresh_token(
        self, token: str, *, client_id: str, scope: str | None
    ) -> Authorization:
        """Return the authorization of a refresh token, which ends that token.

        ``scope`` has the scopes of the next access token. Raises ``InvalidGrant``, and
        ``ValueError`` when ``scope`` is more than was allowed. A second use means that somebody
        else has the token, too: the authorization is revoked (RFC 9700 4.14.2).
        """
        issued = self._refresh.get(_digest(token))
        if (
            issued is None
            or issued.authorization.revoked
            or issued.authorization.client_id != client_id
        ):
            raise InvalidGrant(
                "The refresh token is unknown, has expired, or is not this client's."
            )
        if issued.spent:
            issued.authorization.revoked = True
            raise InvalidGrant("The refresh token was used before. What it gave is revoked.")
        if scope is not None and not set(scope.split()) <= set(issued.authorization.scope.split()):
            raise ValueError("more scopes than were allowed")
        issued.spent = True
        return issued.authorization


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _is_verified(code_challenge: str, code_verifier: str) -> bool:
    """Return whether BASE64URL(SHA256(verifier)) is the challenge (RFC 7636 4.6)."""
    if not _VERIFIER.fullmatch(code_verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(digest, code_challenge.encode())
