"""Validate access tokens that are signed JWTs (RFC 9068, RFC 8725; SIA-10).

It needs no call to the server. But a revoked token stays valid until it expires.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.errors import Unavailable
from sidecar.tokens.claims import TokenRequirements, WrongShape, is_access_token_type, token_of
from sidecar.tokens.rejection import TokenRejected
from sidecar.tokens.signatures import NotSigned, Signatures, media_type_of

log = logging.getLogger(__name__)

Validate = Callable[[str], Awaitable[Token | None]]


class LocalValidation:
    """Validate JWTs of ``issuer()`` for the audiences in ``expected``.

    ``token_type``: the required ``typ`` of the header (``at+jwt`` in RFC 9068); ``None``: ``JWT``
    and no ``typ`` are valid, too. ``observe(outcome, seconds)`` takes ``active``, ``inactive``, a
    reason of ``INVALID_TOKEN``, ``wrong_shape`` and ``unavailable``.
    """

    def __init__(
        self,
        signatures: Signatures,
        issuer: Callable[[], Awaitable[str]],
        expected: TokenRequirements,
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
        self._type = token_type
        self._observe = observe
        self._clock = clock

    async def validate(self, token: str) -> Token | None:
        """Return the token's facts, ``None`` when its claims say that it is not active.

        Raises ``TokenRejected`` when it is not accepted, ``Unavailable`` (503) without keys, and
        ``BadGateway`` (502) for one that is well signed and has a wrong shape.
        """
        started = time.perf_counter()
        try:
            facts = await self._validate(token)
        except TokenRejected as rejected:
            self._observe(rejected.reason.value, time.perf_counter() - started)
            rejected.log(log)
            raise
        except WrongShape as wrong:
            # Its signature is good, so tokens.claims does not fit this server.
            self._observe("wrong_shape", time.perf_counter() - started)
            text = "an access token has a wrong shape: check tokens.claims"
            raise wrong.problem("token_wrong_shape", log, text) from None
        except Unavailable:
            self._observe("unavailable", time.perf_counter() - started)
            raise
        self._observe("active" if facts else "inactive", time.perf_counter() - started)
        return facts

    async def _validate(self, token: str) -> Token | None:
        try:
            header, claims = await self._signatures.verify(token)
        except NotSigned as wrong:
            raise TokenRejected(
                Reason.UNVERIFIED_TOKEN,
                "its signature",
                expected="good",
                received=f"not ({wrong.why})",
            ) from None
        self._check_header(header)
        if claims.get("active", True) is not True:
            return None
        issuer, now = await self._issuer(), self._clock()
        if claims.get("iss") != issuer:
            raise TokenRejected(
                Reason.WRONG_ISSUER, "iss", expected=issuer, received=claims.get("iss")
            )
        issued_at = claims.get("iat", 0)
        if isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
            raise WrongShape("iat")
        if not issued_at <= now + self._expected.leeway_seconds:
            raise TokenRejected(
                Reason.NOT_YET_VALID, "iat", expected=f"{now:.0f} or before", received=issued_at
            )
        return token_of({**claims, "active": True}, self._expected, now=now)

    def _check_header(self, header: dict[str, Any]) -> None:
        """Raise ``TokenRejected`` unless ``typ`` is an access token's (RFC 8725 3.11, 9068 2.1)."""
        kind = media_type_of(header)
        if self._type is not None:
            is_right = kind == self._type
        else:
            is_right = header.get("typ") is None or kind == "jwt" or is_access_token_type(kind)
        if not is_right:
            raise TokenRejected(
                Reason.WRONG_TOKEN_TYPE,
                "typ in its header",
                expected=self._type or "an access token's",
                received=header.get("typ"),
            )


class LocalThenIntrospection:
    """Validate tokens locally, and introspect those that pass: junk costs the EHR nothing."""

    def __init__(self, local: Validate, introspect: Validate) -> None:
        self._local = local
        self._introspect = introspect

    async def validate(self, token: str) -> Token | None:
        """Return the introspected facts, ``None`` unless the token is active for both.

        Raises what they raise, and ``TokenRejected`` for different patients or clients.
        """
        local = await self._local(token)
        if local is None:
            return None
        introspected = await self._introspect(token)
        if introspected is None:
            return None
        for name in ("patient", "client_id"):
            named = {getattr(facts, name) for facts in (local, introspected)} - {None}
            if len(named) > 1:
                log.error(
                    "an access token and its introspection name different patients or clients",
                    extra={"reason": Reason.CONTRADICTORY_TOKEN.value, "claim": name},
                )
                raise TokenRejected(Reason.CONTRADICTORY_TOKEN)
        expires_at = min(local.expires_at, introspected.expires_at)
        return replace(introspected, expires_at=expires_at)
