"""A FHIR server that takes AuditEvents, alone or in batches.

See IHE RESTful ATNA (ITI-20) and FHIR R4 http.html#transaction.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import aiohttp

from sidecar.audit.backlog import SpooledEvent
from sidecar.audit.operation_outcome import reason
from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch

LIMIT_BYTES = 2**16
"""Limit in bytes of a response, plus ``LIMIT_EVENT_BYTES`` for each event."""
LIMIT_EVENT_BYTES = 2**13
_NEVER = frozenset({400, 413, 422})
"""Statuses with which the server rejects the event itself (FHIR R4 http.html#create)."""


class DeliveryOutcome(Enum):
    """The result of the delivery of an event."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    AGAIN = "again"


class Undelivered(Exception):
    """No event is known to be taken. Try again, ``retry_after`` seconds later at the soonest.

    ``reason`` is a constant for logs.
    """

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Refused(Exception):
    """The server rejects this batch: it has too many events, or one that is rejected."""


class Repository:
    """The server at ``url`` (its FHIR base).

    ``authorization`` returns the value of the header for a request. With ``update`` events are
    stored under ids of ours, so that an event that is sent twice is stored once. The server must
    let clients choose ids (FHIR R4 http.html#upsert).
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        authorization: Callable[[], str | None] = lambda: None,
        timeout_seconds: float = 10,
        update: bool = False,
    ) -> None:
        self._session = session
        self._url = url
        self._authorization = authorization
        self._timeout_seconds = timeout_seconds
        self._update = update
        self.refusal = ""
        """Why the last event was rejected, of constants for logs."""

    async def deliver(self, events: Sequence[SpooledEvent]) -> list[DeliveryOutcome]:
        """Send the events in one request. Return their outcomes in order.

        Raises ``Undelivered``, ``Refused``.
        """
        self.refusal = ""
        if len(events) == 1:
            return [await self._deliver_one(events[0])]
        entries = b",".join(map(self._entry, events))
        body = b'{"resourceType":"Bundle","type":"batch","entry":[' + entries + b"]}"
        answer = await self._send("POST", "", body, len(events))
        if answer.status in _NEVER:
            raise Refused
        if answer.status != 200:
            raise _undelivered(answer)
        outcomes, self.refusal = _outcomes(answer, len(events))
        return outcomes

    async def _deliver_one(self, event: SpooledEvent) -> DeliveryOutcome:
        method, path = self._place(event)
        answer = await self._send(method, "/" + path, self._resource(event), 1)
        if answer.status in _NEVER:
            self.refusal = _refusal(answer.status, _resource(answer))
            return DeliveryOutcome.REJECTED
        if answer.status not in ((200, 201) if self._update else (201,)):
            raise _undelivered(answer)
        if not _is_of_fhir(answer):
            raise Undelivered("not_fhir")
        return DeliveryOutcome.DELIVERED

    async def _send(self, method: str, path: str, body: bytes, events: int) -> FetchedResponse:
        # With return=minimal the events do not come back (FHIR R4 http.html#ops).
        headers = {
            "Content-Type": "application/fhir+json",
            "Accept": "application/fhir+json",
            "Prefer": "return=minimal",
        }
        try:
            if (authorization := self._authorization()) is not None:
                headers["Authorization"] = authorization
        except (OSError, ValueError):  # A file that is being renewed.
            raise Undelivered("credential") from None
        try:
            return await fetch(
                self._session,
                method,
                self._url + path,
                form=body,
                headers=headers,
                limit_bytes=LIMIT_BYTES + events * LIMIT_EVENT_BYTES,
                timeout_seconds=self._timeout_seconds,
            )
        except FetchFailed as failure:
            raise Undelivered(failure.detail or failure.reason) from None

    def _entry(self, event: SpooledEvent) -> bytes:
        method, path = self._place(event)
        return b'{"fullUrl":"urn:uuid:%b","resource":%b,"request":{"method":"%b","url":"%b"}}' % (
            _id(event).encode(),
            self._resource(event),
            method.encode(),
            path.encode(),
        )

    def _place(self, event: SpooledEvent) -> tuple[str, str]:
        return ("PUT", f"AuditEvent/{_id(event)}") if self._update else ("POST", "AuditEvent")

    def _resource(self, event: SpooledEvent) -> bytes:
        return (
            b'{"id":"%b",%b' % (_id(event).encode(), event.line[1:]) if self._update else event.line
        )


def _id(event: SpooledEvent) -> str:
    """Return an id that is the same whenever this event is sent."""
    return str(uuid5(NAMESPACE_OID, f"smart-imaging-sidecar {event.segment} {event.begin}"))


def _is_of_fhir(answer: FetchedResponse) -> bool:
    """Return whether a response is empty or a resource, unlike a proxy's login page."""
    if not answer.body.strip():
        return True
    resource = _resource(answer)
    return isinstance(resource, dict) and resource.get("resourceType") in (
        "AuditEvent",
        "OperationOutcome",
    )


def _resource(answer: FetchedResponse) -> Any:
    try:
        return answer.json()
    except FetchFailed:
        return None


def _refusal(status: int | str, outcome: Any) -> str:
    return ", ".join(filter(None, [f"status {status}", reason(outcome)]))


def _undelivered(answer: FetchedResponse) -> Undelivered:
    retry_after = answer.headers.get("Retry-After", "")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0
    return Undelivered(f"status {answer.status}", seconds)


def _outcomes(answer: FetchedResponse, count: int) -> tuple[list[DeliveryOutcome], str]:
    """Return the outcomes in the response to a batch, and why an event is rejected, if one is.

    Raises ``Undelivered`` unless it has a status for each event.
    """
    try:
        bundle = answer.json()
        responses: list[Any] = [entry["response"] for entry in bundle["entry"]]
        statuses = [str(response["status"])[:3] for response in responses]
    except (FetchFailed, KeyError, TypeError):
        raise Undelivered("not_a_batch_response") from None
    if len(statuses) != count:
        raise Undelivered("not_a_batch_response")
    outcomes = [_outcome(status) for status in statuses]
    refusals = (
        _refusal(status, response.get("outcome"))
        for status, response, outcome in zip(statuses, responses, outcomes, strict=True)
        if outcome is DeliveryOutcome.REJECTED
    )
    return outcomes, next(refusals, "")


def _outcome(status: str) -> DeliveryOutcome:
    if status in ("200", "201"):
        return DeliveryOutcome.DELIVERED
    return DeliveryOutcome.REJECTED if status in map(str, _NEVER) else DeliveryOutcome.AGAIN
