"""Check of the FHIR server that takes AuditEvents. It is given none to keep.

One that offers ``$validate`` is sent events of a made-up patient.
"""

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp

from sidecar.access.facts import Part, Token
from sidecar.audit.event import SUCCESS, audit_line
from sidecar.audit.operation_outcome import reason
from sidecar.audit.record import AccessRecord
from sidecar.bootstrap.audit import audit_source
from sidecar.bootstrap.context import open_session
from sidecar.check.outcome import CheckOutcome, failure, ok, unreachable, warning
from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from sidecar.settings.audit import AuditRepository
from sidecar.settings.document import Settings

_LIMIT_BYTES = 32 * 2**20
_VALIDATED = frozenset({200, 400, 412, 422})
"""Statuses with which servers answer to what they did validate."""
_REJECTED = "Rejected events are in rejected.jsonl alone: docs/operations.md, In a FHIR server."
_REJECTS = {
    "absolute": ("local", "it allows external references"),
    "relative": ("enforced", "it has the patients"),
}
"""Form of references -> the ``referencePolicy`` that rejects it, unless this."""


class _Offer(NamedTuple):
    """What a CapabilityStatement says of AuditEvent, and of the server (``system``)."""

    interactions: set[str]
    operations: set[str]
    policies: set[str]
    system: set[str]
    is_hapi: bool


async def audit_repository(settings: Settings) -> CheckOutcome:
    """Check that ``audit.repository`` takes AuditEvents, as far as it says so without any."""
    repository = settings.audit.repository
    if repository.url is None:
        return ok("none")
    try:
        async with open_session(repository.ca_file, connections=1) as session:
            answer = await _ask(session, settings, "GET", "/metadata")
            if answer.status != 200:
                return failure(
                    f"{repository.url}/metadata answers {answer.status}",
                    "Is audit.repository.url its FHIR base?",
                )
            offer = _offer(answer.json())
            missing = _missing(offer, repository)
            if offer is None or missing is not None:
                return warning(
                    f"{repository.url} does not say that it offers {missing}",
                    "Events may stay in the spool.",
                )
            if problem := _reference_problem(offer, repository.patient_reference):
                return warning(f"{repository.url} {problem}", _REJECTED)
            if "validate" not in offer.operations:
                return ok(repository.url)
            return await _validated(session, settings, repository.url)
    except FetchFailed as error:
        return unreachable(repository.url, error)


async def _ask(
    session: aiohttp.ClientSession,
    settings: Settings,
    method: str,
    path: str,
    body: bytes | None = None,
) -> FetchedResponse:
    """Raise ``FetchFailed``."""
    repository = settings.audit.repository
    headers = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json"}
    if (authorization := repository.auth.authorization()) is not None:
        headers["Authorization"] = authorization
    return await fetch(
        session,
        method,
        f"{repository.url}{path}",
        form=body,
        limit_bytes=_LIMIT_BYTES,
        timeout_seconds=settings.limits.audit_timeout_seconds,
        headers=headers,
    )


async def _validated(session: aiohttp.ClientSession, settings: Settings, url: str) -> CheckOutcome:
    """Have the server validate an event of a search and one of a read.

    An error is none of the event's if it is gone without the profile, which few servers know.
    Raises ``FetchFailed``.
    """
    profiles = ""
    for event in _samples(settings):
        if await _problem(session, settings, event) is None:
            continue
        del event["meta"]
        if problem := await _problem(session, settings, event):
            return warning(f"{url} finds our events invalid: {problem}", _REJECTED)
        profiles = " (without IHE BALP's profiles: it needs them if it validates what it stores)"
    return ok(url + profiles)


def _samples(settings: Settings) -> list[dict[str, Any]]:
    token = Token((), 0, client_id="check", subject="check", issuer=settings.ehr.fhir_url)
    search = AccessRecord("check", "192.0.2.1", "imaging-study-search", "/fhir/ImagingStudy")
    read = AccessRecord("check", "192.0.2.1", "imaging-study-read", part=Part("1.2.3"))
    events = []
    for record in (search, read):
        record.token, record.patient = token, "made-up-by-check"
        recorded = datetime.now(UTC).isoformat(timespec="milliseconds")
        source = audit_source(settings)
        line = audit_line(record, source, recorded=recorded, outcome=SUCCESS, step="check")
        events.append(json.loads(line))
    return events


async def _problem(
    session: aiohttp.ClientSession, settings: Settings, event: dict[str, Any]
) -> str | None:
    """Return what ``$validate`` finds wrong with an event (FHIR R4 resource-operation-validate).

    Raises ``FetchFailed``.
    """
    body = json.dumps(event).encode()
    answer = await _ask(session, settings, "POST", "/AuditEvent/$validate", body)
    try:
        return reason(answer.json()) if answer.status in _VALIDATED else None
    except FetchFailed:  # It is no JSON.
        return None


def _offer(statement: Any) -> _Offer | None:
    """Return what a server announces; ``None`` when that cannot be read."""
    try:
        (rest,) = [rest for rest in statement["rest"] if rest["mode"] == "server"]
        resources = [one for one in rest.get("resource", []) if one["type"] == "AuditEvent"]
        return _Offer(
            {one["code"] for of in resources for one in of.get("interaction", [])},
            {one["name"] for of in resources for one in of.get("operation", [])},
            {policy for of in resources for policy in of.get("referencePolicy", [])},
            {one["code"] for one in rest.get("interaction", [])},
            "HAPI" in str(statement.get("software")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _missing(offer: _Offer | None, repository: AuditRepository) -> str | None:
    """Return what we need and the server does not announce; ``None`` when nothing is missing."""
    if offer is None:
        return "anything that could be read"
    if repository.interaction not in offer.interactions:
        return f"{repository.interaction} for AuditEvent"
    if repository.batch_size > 1 and not offer.system & {"batch", "transaction"}:
        return "batches (set batch_size: 1)"
    return None


def _reference_problem(offer: _Offer, how: str) -> str | None:
    """Return why the server may reject events that refer to patients like this.

    Its ``referencePolicy`` says so (FHIR R4 capabilitystatement.html), or it is a HAPI. The
    ``$validate`` of a HAPI does not look at that.
    """
    if how not in _REJECTS:
        return None
    policy, unless = _REJECTS[how]
    is_rejected = offer.is_hapi or policy in offer.policies
    return f"rejects patient_reference: {how}, unless {unless}" if is_rejected else None
