"""Steps 3 to 6 of a request: token -> facts, patient -> identifiers, study -> owners, and the decision on them.

Handlers get permits here and nowhere else. Each decision is counted; each refusal is raised as ``Denied``.
"""

import time
from collections.abc import Callable
from typing import Protocol

from aiohttp import hdrs, web

from sidecar.access.decision import (
    Deny,
    Interaction,
    Part,
    PatientPermit,
    Policy,
    Reason,
    StudyPermit,
    decide_patient,
    decide_study,
)
from sidecar.access.identity import PatientIdentifier
from sidecar.access.token import Token
from sidecar.pacs.issuers import Issuers
from sidecar.pacs.ownership import Ownership
from sidecar.telemetry.access_record import current_record
from sidecar.telemetry.audit import AuditTrail
from sidecar.telemetry.durations import measure
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.bearer import MalformedCredentials, bearer_token
from sidecar.tokens.cache import TokenCache
from sidecar.web.limits import QueryLimits


class Denied(Exception):
    """The request is refused; ``web.errors`` makes the answer."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class PatientMapping(Protocol):
    """FHIR Patient id -> identifiers at the PACS (``patients``)."""

    async def identifiers(self, patient: str) -> frozenset[PatientIdentifier]:
        """Return the identifiers, possibly none."""

    def forget(self) -> None:
        """Ask anew from now on."""

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """What an identifier that a FHIR search names is at the PACS, possibly nothing."""

    async def close(self) -> None:
        """End what is under way."""


class Guard:
    """Brings the facts to ``access.decision`` and its answer back."""

    def __init__(
        self,
        tokens: TokenCache,
        patients: PatientMapping,
        ownership: Ownership,
        issuers: Issuers,
        metrics: Metrics,
        audit: AuditTrail,
        *,
        policy: Policy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._patients = patients
        self._ownership = ownership
        self._issuers = issuers
        self._metrics = metrics
        self.audit = audit
        self._policy = policy
        self._clock = clock
        self.queries = QueryLimits()

    async def token(self, request: web.Request) -> Token:
        """Return the facts of the request's access token (SIA-10), or raise ``Denied``."""
        try:
            bearer = bearer_token(request.headers.getall(hdrs.AUTHORIZATION, ()))
        except MalformedCredentials:
            raise self._denied(Reason.MALFORMED_TOKEN) from None
        if bearer is None:
            raise self._denied(Reason.MISSING_TOKEN)
        record = current_record()
        record.bearer, record.token_hash = bearer, self.audit.token_hash(bearer)
        with measure("token"):
            token = record.token = await self._tokens.validate(bearer)
        if token is None:
            raise self._denied(Reason.INACTIVE_TOKEN)
        return token

    def permit(self, token: Token, interaction: Interaction, patient: str | None = None) -> PatientPermit:
        """Permit ``interaction`` on the imaging of ``patient`` (``None``: the token's), or raise ``Denied``."""
        current_record().asks_for((token.patient if patient is None else patient) or None)
        decision = decide_patient(token, interaction, patient, policy=self._policy, now=self._clock())
        if isinstance(decision, Deny):
            raise self._denied(decision.reason)
        self._metrics.decisions.labels("permit", interaction.value).inc()
        return decision

    async def known_as(self, permit: PatientPermit) -> frozenset[PatientIdentifier]:
        """Every identifier by which the PACS may know the permitted patient."""
        with measure("patient"):
            known_as = await self._patients.identifiers(permit.patient)
            await self._issuers.check(known_as)
        return known_as

    async def patient_named(self, permit: PatientPermit, system: str | None, value: str) -> None:
        """Raise ``Denied`` unless this identifier is the permitted patient's (SIA-22)."""
        if not self._patients.named(system, value) & await self._patients.identifiers(permit.patient):
            raise self._denied(Reason.OTHER_PATIENT)

    async def study(self, permit: PatientPermit, part: Part) -> StudyPermit:
        """Permit ``part`` of the archive, or raise ``Denied``. All refusals look the same (SIA-45)."""
        current_record().part = part
        known_as = await self.known_as(permit)
        with measure("ownership"):
            async with self.queries.turn(permit.patient):
                facts = await self._ownership.facts(part, known_as)
        decision = decide_study(permit, part, known_as, facts)
        if isinstance(decision, Deny):
            raise self._denied(decision.reason)
        self._metrics.decisions.labels("permit", "study").inc()
        return decision

    def _denied(self, reason: Reason) -> Denied:
        self._metrics.decisions.labels("deny", reason.value).inc()
        return Denied(reason)
