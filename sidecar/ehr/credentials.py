"""Get our access token at the EHR (SMART Backend Services), to read Patients or to introspect."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from sidecar.common.invalidation import NO_PATIENT_DATA
from sidecar.common.loading_cache import LoadingCache
from sidecar.ehr.oauth_error import status_and_error

log = logging.getLogger(__name__)

LIMIT_BYTES = 65_536
RENEW_BEFORE_SECONDS = 30
MAXIMUM_LIFETIME_SECONDS = 366 * 86_400
"""Limit in seconds of an access token's lifetime; a longer one is an error."""


class Credentials(Protocol):
    """Our own access token at the EHR."""

    async def token(self) -> str | None:
        """Return a valid token, ``None`` when the EHR needs none."""

    def forget(self) -> bool:
        """Forget the token, which was refused. Return whether the next one may be another."""


@dataclass(frozen=True, slots=True)
class StaticToken:
    """``bearer``: a configured token. ``none``: the EHR needs none (network rules)."""

    value: str | None = field(repr=False)

    async def token(self) -> str | None:
        """Return the token."""
        return self.value

    def forget(self) -> bool:
        """Return ``False``: it is renewed elsewhere."""
        return False


@dataclass(frozen=True, slots=True)
class _AccessToken:
    value: str = field(repr=False)
    lifetime_seconds: float


class BackendServices:
    """``backend_services``: client credentials with a signed assertion (RFC 7523).

    ``private_key`` is a PEM or a JWK (JSON text); ``algorithm`` RS384 or ES384. The access token is
    cached until shortly before it expires. ``setting``: its name in the log. ``clock``: for the
    assertion; ``monotonic`` measures the age of the token. Raises ``ValueError`` for a key that
    cannot be used.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token_endpoint: Callable[[], Awaitable[str]],
        *,
        client_id: str,
        private_key: str,
        key_id: str | None,
        algorithm: str,
        scope: str,
        timeout_seconds: float,
        setting: str = "patients.client",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        from sidecar.ehr.assertion import ClientAssertion  # noqa: PLC0415 - 9 MB

        self._session = session
        self._token_endpoint = token_endpoint
        self._assertion = ClientAssertion(
            client_id, private_key, key_id=key_id, algorithm=algorithm, clock=clock
        )
        self._setting = setting
        self._scope = scope
        self._timeout_seconds = timeout_seconds
        self._tokens: LoadingCache[None, _AccessToken] = LoadingCache(
            NO_PATIENT_DATA,
            max_entries=1,
            ttl_seconds=lambda token: token.lifetime_seconds - RENEW_BEFORE_SECONDS,
            clock=monotonic,
        )

    async def token(self) -> str:
        """Return a valid token. Raises ``Unavailable``, or ``BadGateway`` for a refused key."""
        return (await self._tokens.get(None, self._request)).value

    def forget(self) -> bool:
        """Forget the token. Return ``True``: the next call requests a new one."""
        self._tokens.discard(None)
        return True

    async def _request(self) -> _AccessToken:
        endpoint = await self._token_endpoint()
        try:
            answer = await fetch(
                self._session,
                "POST",
                endpoint,
                limit_bytes=LIMIT_BYTES,
                timeout_seconds=self._timeout_seconds,
                headers={"Accept": "application/json"},
                form={
                    "grant_type": "client_credentials",
                    "scope": self._scope,
                    **self._assertion.form(endpoint),
                },
                name="ehr token",
            )
            return self._read(answer)
        except FetchFailed as failure:
            log.error(
                "no access token of our own",
                extra={
                    "setting": self._setting,
                    "reason": failure.reason,
                    "detail": failure.detail,
                },
            )
            raise Unavailable(
                "The hospital's authorization server does not answer now; try again.",
                reason="backend_token_" + failure.reason,
            ).because(failure.detail) from None

    def _read(self, answer: FetchedResponse) -> _AccessToken:
        if answer.status in (400, 401, 403):
            log.error(
                "the authorization server refused our backend client",
                extra={
                    "setting": self._setting,
                    "reason": "backend_token_refused",
                    "upstream_status": answer.status,
                    "detail": status_and_error(answer),
                },
            )
            raise BadGateway(
                "This server is not accepted by the hospital's authorization server. "
                "Its operators have been told.",
                reason="backend_token_refused",
            ).because(status_and_error(answer))
        if answer.status != 200:
            raise FetchFailed("unexpected_status", status_and_error(answer))
        body = answer.strict_json_object()
        token, lifetime = body.get("access_token"), body.get("expires_in", 60)
        if not isinstance(token, str) or not token or isinstance(lifetime, bool):
            raise FetchFailed("wrong_shape")
        if not isinstance(lifetime, int | float) or not lifetime <= MAXIMUM_LIFETIME_SECONDS:
            raise FetchFailed("wrong_shape")
        return _AccessToken(token, lifetime)
