"""Access tokens that are signed JWTs, validated here (RFC 9068, RFC 8725; SIA-10 "locally verified signed tokens").

Cheap and without a call, but a token that was revoked is good until it expires: nobody tells us.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from sidecar.access.token import Token
from sidecar.common.errors import Unavailable
from sidecar.tokens.facts import Expected, WrongShape, token_of
from sidecar.tokens.signatures import NotSigned, Signatures

log = logging.getLogger(__name__)

Validate = Callable[[str], Awaitable[Token | None]]


class LocalValidation:
    """Validates JWTs of ``issuer()`` for the audiences in ``expected``.

    ``token_type``: what ``typ`` must be (``at+jwt`` is RFC 9068's), ``None`` for any. ``observe(outcome)`` takes
    ``active``, ``inactive`` and ``unavailable``.
    """

    def __init__(
        self,
        signatures: Signatures,
        issuer: Callable[[], Awaitable[str]],
        expected: Expected,
        *,
        token_type: str | None = None,
        observe: Callable[[str, float], None] = lambda outcome, seconds: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not expected.audience:
            raise ValueError("without an audience an ID token would pass for an access token")
        self._signatures = signatures
        self._issuer = issuer
        self._expected = expected
        self._types = None if token_type is None else (token_type,)
        self._observe = observe
        self._clock = clock

    async def validate(self, token: str) -> Token | None:
        """Return the token's facts, ``None`` when it is not good here. Raises ``Unavailable`` without keys (503)."""
        started = time.perf_counter()
        try:
            found = await self._validate(token)
        except Unavailable:
            self._observe("unavailable", time.perf_counter() - started)
            raise
        self._observe("active" if found else "inactive", time.perf_counter() - started)
        return found

    async def _validate(self, token: str) -> Token | None:
        try:
            claims = await self._signatures.claims(token, self._types)
            issuer = await self._issuer()
            issued_at = claims.get("iat", 0)
            if claims.get("active", True) is not True:
                return None
            if claims.get("iss") != issuer or isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
                return None
            if not issued_at <= self._clock() + self._expected.leeway_seconds:
                return None
            return token_of({**claims, "active": True}, replace(self._expected, issuer=issuer), now=self._clock())
        except NotSigned as wrong:
            log.debug("a token is not good here", extra={"reason": wrong.why})
            return None
        except WrongShape as wrong:
            # Its signature is good: the authorization server means it, and tokens.claims does not fit.
            log.error("an access token has a wrong shape: check tokens.claims", extra={"field": wrong.field})
            return None


class LocalThenIntrospection:
    """Refuses by itself what is not good, and has the rest introspected: junk tokens cost the EHR nothing."""

    def __init__(self, local: Validate, introspect: Validate) -> None:
        self._local = local
        self._introspect = introspect

    async def validate(self, token: str) -> Token | None:
        """Return what introspection says, ``None`` unless both say that the token is good, and of the same patient."""
        local = await self._local(token)
        if local is None:
            return None
        found = await self._introspect(token)
        if found is None:
            return None
        for one, other in ((local.patient, found.patient), (local.client_id, found.client_id)):
            if one is not None and other is not None and one != other:
                log.error("an access token and its introspection name different patients or clients")
                return None
        return replace(found, expires_at=min(local.expires_at, found.expires_at))
