"""Fetch the EHR's smart-configuration (SMART App Launch 2.2 "Conformance"; SIA-1, SIA-10)."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from sidecar.common.errors import Unavailable
from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from sidecar.common.invalidation import NO_PATIENT_DATA
from sidecar.common.loading_cache import LoadingCache

log = logging.getLogger(__name__)

LIMIT_BYTES = 1_048_576
LISTS = (
    "code_challenge_methods_supported",
    "grant_types_supported",
    "scopes_supported",
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
)
"""Members that say what the authorization server takes (RFC 8414, SMART App Launch 2.2)."""
_NO_ANSWER = frozenset({"timeout", "unreachable"})


@dataclass(frozen=True, slots=True)
class SmartConfiguration:
    """Endpoints as absolute URLs, ``None`` where the EHR names none.

    ``authorization_metadata``: those of ``LISTS`` that the EHR publishes.
    """

    introspection_endpoint: str | None
    token_endpoint: str | None
    authorization_endpoint: str | None
    issuer: str | None
    jwks_uri: str | None = None
    authorization_metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _unavailable(failure: FetchFailed) -> Unavailable:
    return Unavailable(
        "The hospital's authorization server cannot be reached now; try again.",
        reason="discovery_" + failure.reason,
    ).because(failure.detail)


class Discovery:
    """Cache the configuration for ``ttl_seconds``.

    The last one is used while the EHR does not answer, with a new try after ``retry_seconds``: it
    names endpoints, and a stale name permits nothing.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        fhir_url: str,
        *,
        timeout_seconds: float,
        ttl_seconds: float = 3_600,
        retry_seconds: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._fhir_url = fhir_url
        self._url = fhir_url + "/.well-known/smart-configuration"
        self._timeout_seconds = timeout_seconds
        self._configuration: LoadingCache[None, SmartConfiguration] = LoadingCache(
            NO_PATIENT_DATA,
            max_entries=1,
            ttl_seconds=lambda _: ttl_seconds if self._failure is None else retry_seconds,
            clock=clock,
        )
        self._last: SmartConfiguration | None = None
        self._failure: FetchFailed | None = None
        self.is_absent = False
        """Whether the EHR's last answer was that it has no smart-configuration (404)."""

    async def configuration(self) -> SmartConfiguration:
        """Return the EHR's configuration. Raises ``Unavailable`` (503) before the first answer."""
        return await self._configuration.get(None, self._refresh)

    async def _refresh(self) -> SmartConfiguration:
        try:
            self._last = await self._fetch()
        except FetchFailed as failure:
            last, self._failure = self._failure, failure
            if last is None or (last.reason, last.detail) != (failure.reason, failure.detail):
                # Once: /readyz and apps ask again and again for what an EHR does not have.
                log.warning(
                    "EHR discovery failed",
                    extra={"reason": failure.reason, "detail": failure.detail},
                )
            if self._last is None:
                raise _unavailable(failure) from None
        else:
            self._failure = None
        return self._last

    async def probe(self) -> None:
        """Fetch the configuration now. Raises ``Unavailable`` without a usable answer."""
        await self._configuration.reload(None, self._refresh)
        if self._failure is not None:
            raise _unavailable(self._failure)

    async def probe_reachable(self) -> None:
        """Ask the EHR now. Raises ``Unavailable`` when it does not answer at all."""
        try:
            await self.probe()
        except Unavailable:
            if self._failure is None or self._failure.reason in _NO_ANSWER:
                raise

    async def _fetch(self) -> SmartConfiguration:
        answer = await fetch(
            self._session,
            "GET",
            self._url,
            limit_bytes=LIMIT_BYTES,
            timeout_seconds=self._timeout_seconds,
            headers={"Accept": "application/json"},
            name="ehr discovery",
        )
        self.is_absent = answer.status == 404
        if answer.status != 200:
            raise FetchFailed("unexpected_status", f"status {answer.status}")
        body = await answer.read(FetchedResponse.strict_json_object)
        issuer = body.get("issuer")
        return SmartConfiguration(
            introspection_endpoint=self._endpoint(body, "introspection_endpoint"),
            token_endpoint=self._endpoint(body, "token_endpoint"),
            authorization_endpoint=self._endpoint(body, "authorization_endpoint"),
            issuer=issuer if isinstance(issuer, str) else None,
            jwks_uri=self._endpoint(body, "jwks_uri"),
            authorization_metadata={
                name: tuple(body[name]) for name in LISTS if _is_list_of_texts(body.get(name))
            },
        )

    def _endpoint(self, body: dict[str, Any], name: str) -> str | None:
        url = body.get(name)
        if url is None:
            return None
        if not isinstance(url, str):
            raise FetchFailed("wrong_shape")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise FetchFailed("wrong_shape") from None
        if not parts.hostname or parts.scheme not in ("https", "http"):
            raise FetchFailed("wrong_shape")
        # Tokens go there: no plain http for an EHR that is reached by https.
        if parts.scheme == "http" and self._fhir_url.lower().startswith("https:"):
            raise FetchFailed("insecure_endpoint")
        return url
