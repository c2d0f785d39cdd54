"""Introspect tokens at the EHR (RFC 7662), without caching (``cache.py`` adds that)."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp

from sidecar.access.facts import Token
from sidecar.common.circuit_breaker import Breaker
from sidecar.common.errors import BadGateway, Problem, Unavailable
from sidecar.common.fair_queue import FairQueue, QueueFull, WaitTooLong
from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from sidecar.ehr.client_authentication import ClientAuthentication
from sidecar.ehr.oauth_error import status_and_error
from sidecar.tokens.claims import TokenRequirements, WrongShape, token_of
from sidecar.tokens.rejection import TokenRejected

if TYPE_CHECKING:
    from sidecar.tokens.signed_introspection import SignedAnswers

log = logging.getLogger(__name__)

LIMIT_BYTES = 65_536
RETRY_AFTER_SECONDS = 5
AT_ONCE, WAITING = 50, 500
"""Limits of concurrent introspections, and of requests that wait for one."""
_SERVER_FAILED = frozenset({"unreachable", "timeout", "server_busy"})
_BUSY_STATUSES = frozenset({429, 502, 503, 504})


class Introspection:
    """Ask the authorization server about tokens.

    ``endpoint`` returns the URL (fixed, or from discovery); ``expected``: requirements of an
    answer; ``signed``: answers must be signed (RFC 9701). ``issuers`` returns the permitted
    ``iss``. ``observe(outcome, seconds)`` takes each call's outcome: ``active``, ``inactive``, a
    reason of ``INVALID_TOKEN``, ``wrong_shape``, ``unavailable``, ``bad_credentials``.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: Callable[[], Awaitable[str]],
        authentication: ClientAuthentication,
        *,
        timeout_seconds: float,
        expected: TokenRequirements,
        signed: "SignedAnswers | None" = None,
        issuers: Callable[[], Awaitable[tuple[str, ...]]],
        breaker: Breaker | None = None,
        observe: Callable[[str, float], None] = lambda outcome, seconds: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._authentication = authentication
        self._timeout_seconds = timeout_seconds
        self._expected = expected
        self._signed = signed
        self._issuers = issuers
        self._breaker = breaker or Breaker()
        self._observe = observe
        self._clock = clock
        self._queue = FairQueue((AT_ONCE,), waiting=(WAITING,), seconds=timeout_seconds)

    async def introspect(self, token: str) -> Token | None:
        """Return the token's facts, ``None`` when it is not active.

        Raises ``TokenRejected`` when it is active and does not meet the requirements,
        ``Unavailable`` (503) without a usable answer (SIA-16), ``BadGateway`` (502) when the server
        refuses our credentials, or its answer has a wrong shape.
        """
        try:
            async with self._queue.place():
                if self._breaker.refuses():
                    raise _unavailable("circuit_open")
                return await self._introspect(await self._endpoint(), token)
        except (QueueFull, WaitTooLong):
            self._observe("unavailable", 0)
            log.error("introspection failed", extra={"reason": "queue_full", "detail": None})
            raise _unavailable("queue_full") from None

    async def _introspect(self, endpoint: str, token: str) -> Token | None:
        started = time.perf_counter()
        try:
            answer = await self._ask(endpoint, token)
            if _refuses_us(answer) and self._authentication.refused():
                answer = await self._ask(endpoint, token)
            facts = await self._read(answer)
        except TokenRejected as rejected:
            self._breaker.succeeded()
            self._observe(rejected.reason.value, time.perf_counter() - started)
            rejected.log(log)
            raise
        except WrongShape as wrong:
            self._breaker.succeeded()
            self._observe("wrong_shape", time.perf_counter() - started)
            raise wrong.problem(
                "introspection_wrong_shape", log, "introspection answer has a wrong shape"
            ) from None
        except FetchFailed as failure:
            # An answer about this token, even a 500, does not concern the others: no app may open
            # the circuit for everybody with tokens that the server fails at.
            if failure.reason in _SERVER_FAILED:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
            self._observe("unavailable", time.perf_counter() - started)
            log.error(
                "introspection failed", extra={"reason": failure.reason, "detail": failure.detail}
            )
            raise _unavailable(failure.reason).because(failure.detail) from None
        except Problem as problem:
            outcome = "bad_credentials" if isinstance(problem, BadGateway) else "unavailable"
            self._observe(outcome, time.perf_counter() - started)
            raise
        self._breaker.succeeded()
        self._observe("active" if facts else "inactive", time.perf_counter() - started)
        return facts

    async def _ask(self, endpoint: str, token: str) -> FetchedResponse:
        headers = {"Accept": "application/json" if self._signed is None else self._signed.accept}
        form = {"token": token, "token_type_hint": "access_token"}
        await self._authentication.apply(endpoint, headers, form)
        return await fetch(
            self._session,
            "POST",
            endpoint,
            limit_bytes=LIMIT_BYTES,
            timeout_seconds=self._timeout_seconds,
            headers=headers,
            form=form,
            name="ehr introspection",
        )

    async def _read(self, answer: FetchedResponse) -> Token | None:
        if _refuses_us(answer):
            log.error(
                "the authorization server refused our own client credentials: check tokens.client",
                extra={
                    "reason": "introspection_bad_credentials",
                    "upstream_status": answer.status,
                    "detail": status_and_error(answer),
                },
            )
            raise BadGateway(
                "This server is not accepted by the hospital's authorization server. "
                "Its operators have been told.",
                reason="introspection_bad_credentials",
            ).because(status_and_error(answer))
        if answer.status != 200:
            reason = "server_busy" if answer.status in _BUSY_STATUSES else "unexpected_status"
            raise FetchFailed(reason, status_and_error(answer))
        claims = (
            answer.strict_json_object() if self._signed is None else await self._signed.read(answer)
        )
        return token_of(claims, await self._expected_of(claims), now=self._clock())

    async def _expected_of(self, claims: dict[str, Any]) -> TokenRequirements:
        """Return the requirements with the issuers, which an active answer with ``iss`` needs."""
        if claims.get("active") is not True or claims.get("iss") is None:
            return self._expected
        return replace(self._expected, issuers=await self._issuers())


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        "The access token cannot be checked at the hospital's authorization server now; try again.",
        reason="introspection_" + why,
        retry_after=RETRY_AFTER_SECONDS,
    )


def _refuses_us(answer: FetchedResponse) -> bool:
    return answer.status in (401, 403) or (
        answer.status == 400 and b"invalid_client" in answer.body
    )
