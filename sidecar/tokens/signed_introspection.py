"""Verify signed introspection answers (RFC 9701)."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from sidecar.common.fetch import FetchedResponse, FetchFailed
from sidecar.dicomweb.media_types import parse_media_type
from sidecar.tokens.claims import WrongShape, names_audience
from sidecar.tokens.signatures import NotSigned, Signatures

SIGNED_ANSWER = "application/token-introspection+jwt"
AGE_SECONDS = 300
"""Limit in seconds of an answer's age: an older one may be a replay."""


class SignedAnswers:
    """Read the answers of ``issuer()`` for ``audience``, our client id."""

    accept = SIGNED_ANSWER

    def __init__(
        self,
        signatures: Signatures,
        issuer: Callable[[], Awaitable[str]],
        audience: str,
        *,
        leeway_seconds: float = 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signatures = signatures
        self._issuer = issuer
        self._audience = audience
        self._leeway_seconds = leeway_seconds
        self._clock = clock

    async def read(self, answer: FetchedResponse) -> dict[str, Any]:
        """Return the ``token_introspection`` member of the answer.

        Raises ``FetchFailed`` for an answer that is not signed, or not for us, ``WrongShape`` for
        one without that member, and ``Unavailable`` without keys.
        """
        try:
            if parse_media_type(answer.headers.get("Content-Type", "")).name != SIGNED_ANSWER:
                raise FetchFailed("not_signed", "content_type")
            claims = await self._signatures.claims(
                answer.body.decode("ascii").strip(), types=("token-introspection+jwt",)
            )
        except NotSigned as wrong:
            raise FetchFailed("not_signed", wrong.why) from None
        except ValueError:
            raise FetchFailed("not_signed", "shape") from None
        issued_at, introspection = claims.get("iat"), claims.get("token_introspection")
        if claims.get("iss") != await self._issuer():
            raise FetchFailed("not_signed", "iss")
        if not names_audience(claims.get("aud"), (self._audience,)):
            raise FetchFailed("not_signed", "aud")
        if isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
            raise FetchFailed("not_signed", "iat")
        if not -AGE_SECONDS <= issued_at - self._clock() <= self._leeway_seconds:
            raise FetchFailed("not_signed", "iat")
        if not isinstance(introspection, dict):
            raise WrongShape("token_introspection")
        return introspection
