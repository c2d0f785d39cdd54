"""Steps 3 to 6 of a request: token -> facts, patient -> identifiers, study -> owners, and the decision on them.

Handlers get permits here and nowhere else. Each decision is counted; each refusal is raised as
``Denied``.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TypeVar

from aiohttp import hdrs, web

from sidecar.access.decision import decide_capability, decide_patient, decide_study, decide_visible
from sidecar.access.facts import (
    AnswerKind,
    DescribedStudy,
    Part,
    PatientIdentifier,
    Policy,
    StudyFacts,
    Token,
    all_are_one_of,
)
from sidecar.access.permits import (
    Capability,
    Deny,
    HeaderPermit,
    Interaction,
    Operation,
    PatientPermit,
    StudyPermit,
    token_hash,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import ScopeContext
from sidecar.access.visibility import Visible
from sidecar.audit.record import current_record
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.capability_urls import CapabilityUrls, Issued
from sidecar.authorization.limits import QueryLimits, caller_of
from sidecar.authorization.visible_studies import VisibleStudies, VisibleStudiesLookup
from sidecar.common.errors import Problem
from sidecar.common.invalidation import Invalidation
from sidecar.common.spans import OUTCOME, REASON, Span, measure, span
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.issuer_check import Issuers
from sidecar.pacs.ownership import UNNAMED_SECONDS, Ownership
from sidecar.patients.backend_clients import BackendClients
from sidecar.patients.mapping import PatientMapping
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.bearer import MalformedCredentials, bearer_token
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.rejection import TokenRejected

log = logging.getLogger(__name__)

T = TypeVar("T")


class Denied(Exception):
    """The request is refused; ``web.errors`` makes the answer.

    ``series``: what the caller may have instead.
    """

    def __init__(self, reason: Reason, series: frozenset[str] = frozenset()) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.series = series


class Authorizer:
    """Brings the facts to ``access.decision`` and its answer back."""

    def __init__(
        self,
        tokens: TokenCache,
        patients: PatientMapping,
        ownership: Ownership,
        instances: InstancePatients,
        issuers: Issuers,
        metrics: Metrics,
        audit: AuditTrail,
        views: VisibleStudiesLookup,
        *,
        policy: Policy,
        invalidation: Invalidation,
        clients: BackendClients | None = None,
        capabilities: CapabilityUrls | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._patients = patients
        self._ownership = ownership
        self._instances = instances
        self._issuers = issuers
        self._metrics = metrics
        self.audit = audit
        self._views = views
        self._policy = policy
        self._invalidation = invalidation
        self._clients = clients
        self.capabilities = capabilities
        self._clock = clock
        self.queries = QueryLimits()

    async def token(self, request: web.Request) -> Token:
        """Return the facts of the request's access token (SIA-10), or raise ``Denied``."""
        try:
            bearer = bearer_token(request.headers.getall(hdrs.AUTHORIZATION, ()))
        except MalformedCredentials:
            raise self._denied(Deny(Reason.MALFORMED_TOKEN)) from None
        if bearer is None:
            raise self._denied(Deny(Reason.MISSING_TOKEN))
        record = current_record()
        record.bearer, record.token_hash = bearer, self.audit.token_hash(bearer)
        reason = Reason.INACTIVE_TOKEN
        with measure("token"):
            try:
                token = record.token = await self._tokens.validate(bearer)
            except TokenRejected as rejected:
                token, reason = None, rejected.reason
        if token is None:
            raise self._denied(Deny(reason))
        return token

    async def capability(
        self, request: web.Request, sealed: str, study: str | None, operation: Operation
    ) -> tuple[Token, PatientPermit, Capability]:
        """Permit ``operation`` on ``study`` (``None``: on what it is for) by a capability, or raise ``Denied``.

        The token comes first, as everywhere; what is decided on a token is decided on it at each
        use (SIA-50, 52).
        """
        token = await self.token(request)
        opened = None if self.capabilities is None else self.capabilities.unseal(sealed)
        if opened is None:
            raise self._denied(Deny(Reason.UNKNOWN_CAPABILITY))
        record = current_record()
        record.patient = opened.patient
        refused = decide_capability(
            opened, study, operation, shown=token_hash(record.bearer or ""), now=self._clock()
        )
        if refused is not None:
            raise self._denied(refused)
        return token, await self.permit(token, Interaction.RETRIEVE, opened.patient), opened

    async def issue(
        self, token: Token, permit: PatientPermit, studies: Iterable[str]
    ) -> dict[str, Issued]:
        """Return an address for each of the studies that the token may fetch, by UID.

        Without capabilities for none.
        """
        record = current_record()
        if self.capabilities is None or record.bearer is None:
            return {}
        found = await self._decide(token, Interaction.RETRIEVE, permit.patient)
        if isinstance(found, Deny):
            return {}
        view = await self.view(found)
        issued = {
            uid: self.capabilities.issue(record.bearer, token.expires_at, permit.patient, uid)
            for uid in studies
            if isinstance(view.of(uid), Visible)
        }
        self._metrics.capability_urls_issued.inc(len(issued))
        return issued

    async def permit(
        self, token: Token, interaction: Interaction, patient: str | None = None
    ) -> PatientPermit:
        """Permit ``interaction`` on the imaging of ``patient`` (``None``: the token's), or raise ``Denied``.

        Raises ``Unavailable`` (503) when a client's patients cannot be looked up.
        """
        current_record().asks_for((token.patient if patient is None else patient) or None)
        decision = await self._decide(token, interaction, patient)
        if isinstance(decision, Deny):
            raise self._denied(decision)
        self._metrics.decisions.labels("permit", interaction.value).inc()
        return decision

    async def may_search(self, token: Token, patient: str | None) -> None:
        """Raise ``Denied`` for what no parameter of a search can mend: 401 and 403 come before 400."""
        decision = await self._decide(token, Interaction.SEARCH, patient)
        if isinstance(decision, Deny) and decision.reason is not Reason.NO_PATIENT_NAMED:
            current_record().asks_for((token.patient if patient is None else patient) or None)
            raise self._denied(decision)

    async def _decide(
        self, token: Token, interaction: Interaction, patient: str | None
    ) -> PatientPermit | Deny:
        client = None
        if self._clients is not None and any(
            grant.context is ScopeContext.SYSTEM for grant in token.grants
        ):
            client = await self._clients.client(token.client_id)
        constraints = [grant.constraint for grant in token.grants if grant.constraint is not None]
        with span("decide patient") as step:
            decision = decide_patient(
                token,
                interaction,
                patient,
                policy=self._policy,
                now=self._clock(),
                client=client,
                understood=self._views.understood(constraints),
            )
            _tell(step, decision)
        return decision

    async def known_as(
        self, permit: PatientPermit, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Every identifier by which the PACS may know the permitted patient.

        ``fresh``: not those that are kept.
        """
        with measure("patient"):
            known_as = await self._patients.identifiers(permit.patient, fresh=fresh)
        with measure("issuers"):
            await self._issuers.check(known_as)
        return known_as

    async def patient_named(
        self, permit: PatientPermit, system: str | None, value: str, *, fresh: bool = False
    ) -> None:
        """Raise ``Denied`` unless this identifier is the permitted patient's (SIA-22)."""
        known_as = await self._patients.identifiers(permit.patient, fresh=fresh)
        if not self._patients.named(system, value) & known_as:
            raise self._denied(Deny(Reason.OTHER_PATIENT))

    async def view(self, permit: PatientPermit, *, fresh: bool = False) -> VisibleStudies:
        """What the permit shows of the patient's studies.

        ``fresh``: not what is remembered (at a limited rate).
        """
        known_as = await self.known_as(permit, fresh=fresh)
        with span("fetch"):
            return await self._views.of(permit, known_as, fresh=fresh)

    async def study(
        self,
        permit: PatientPermit,
        part: Part,
        answer: AnswerKind,
        *,
        fresh: bool = False,
    ) -> StudyPermit:
        """Permit ``part`` of the archive, or raise ``Denied``. All refusals look the same (SIA-45).

        A study that is drawn as a whole is decided by what the archive says now. ``fresh``: not by
        the identifiers that are kept.
        """
        current_record().part = part
        known_as = await self.known_as(permit, fresh=fresh)
        described: tuple[DescribedStudy, ...] = ()
        if permit.is_limited:
            with measure("description"):
                described, shared = await self._views.described(permit, part.study, known_as)
            now = self._clock()
            self._unless_denied(
                decide_visible(permit, part, described, answer, now=now, shared=shared)
            )
        with measure("ownership"):
            # What says itself whose it is may rest on owners that are as old as they are kept.
            max_age = {AnswerKind.UNNAMED: UNNAMED_SECONDS, AnswerKind.DRAWN: 0}.get(
                answer, math.inf
            )
            found = await self.facts(permit, part, known_as, max_age_seconds=max_age)
        facts = replace(found, described=described)

        def decide() -> StudyPermit | HeaderPermit | Deny:
            with span("decide study") as step:
                decision = decide_study(permit, part, known_as, facts, answer, now=self._clock())
                _tell(step, decision)
            return decision

        decision = decide()
        if isinstance(decision, HeaderPermit):
            with measure("ownership"):
                async with self.query_place(permit):
                    inside = await self._instances.of(decision, known_as)
            facts = replace(facts, inside=inside)
            decision = decide()
        if isinstance(decision, Deny) and decision.reason is Reason.SHARED_UID:
            self._views.forget_listed(part.study, known_as)
        if isinstance(decision, Deny) and facts.inside is not None:
            await self._report_inside(permit, part, known_as)
        if not isinstance(decision, StudyPermit):
            raise self._denied(decision if isinstance(decision, Deny) else Deny(Reason.FOREIGN))
        self._metrics.decisions.labels("permit", "study").inc()
        return decision

    async def _report_inside(
        self, permit: PatientPermit, part: Part, known_as: frozenset[PatientIdentifier]
    ) -> None:
        """Log that the rows said it is the patient's and an instance that it is not.

        An alarm unless corrected.
        """
        corrected = await self.is_corrected(permit, part, known_as)
        log.log(
            logging.WARNING if corrected else logging.ERROR,
            "an instance is not the patient's as whose the archive lists it",
            extra={
                "reason": "corrected" if corrected else "foreign_instance",
                "request_id": current_record().request_id,
            },
        )
        if not corrected:
            self._metrics.observe_foreign("instance")

    async def unrefused(
        self, studies: Iterable[str], known_as: frozenset[PatientIdentifier]
    ) -> frozenset[str]:
        """Return those of the listed ``studies`` that a read does not refuse by their owners."""
        listed = tuple(dict.fromkeys(studies))
        refused, shared = await self._views.refused(listed, known_as)
        self.left_out(shared)
        return frozenset(listed) - refused

    def left_out(self, shared: Collection[str]) -> None:
        """Tell operators that these studies are not in a list, because their UIDs are somebody else's, too."""
        record = current_record()
        new = frozenset(shared) - record.left_out
        if new:
            record.left_out |= new
            self._report_shared(len(new))

    def absent(self, study: str, view: VisibleStudies) -> Denied:
        """The refusal of a study that is not in the view."""
        return self._denied(
            Deny(Reason.SHARED_UID if study in view.listing.shared else Reason.ABSENT)
        )

    def _report_shared(self, count: int) -> None:
        self._metrics.shared_uids.inc(count)
        log.warning(
            "a StudyInstanceUID stands under another patient as well: refused to both, and left out of lists",
            extra={
                "reason": Reason.SHARED_UID.value,
                "studies": count,
                "request_id": current_record().request_id,
            },
        )

    def query_place(self, permit: PatientPermit) -> AbstractAsyncContextManager[None]:
        """One of the caller's places for questions to the archive.

        Raises ``TooManyRequests`` or ``Unavailable``.
        """
        token = current_record().token
        return self.queries.place(
            ("patient", permit.patient) if token is None else caller_of(token)[0]
        )

    async def facts(
        self,
        permit: PatientPermit,
        part: Part,
        known_as: frozenset[PatientIdentifier],
        *,
        max_age_seconds: float = math.inf,
    ) -> StudyFacts:
        """What the archive says of the owners of ``part``, in one of the patient's places.

        Raises ``Problem``.
        """
        async with self.query_place(permit):
            return await self._ownership.facts(part, known_as, max_age_seconds=max_age_seconds)

    def forget_study(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """Ask the archive anew about this study.

        Owners, parts and what instances name are forgotten for whoever asks, lists that show it for
        this patient.
        """
        self._invalidation.forget_study(study)
        self._views.forget_listed(study, known_as)

    async def is_corrected(
        self, permit: PatientPermit, part: Part, known_as: frozenset[PatientIdentifier]
    ) -> bool:
        """Whether the archive says now that ``part`` is not there, or not only this patient's.

        What was remembered of the study is forgotten in any case. ``False`` when the archive does
        not say it: what no correction explains is an alarm.
        """
        self.forget_study(part.study, known_as)
        try:
            facts = await self.facts(permit, part, known_as, max_age_seconds=0)
        except Problem:
            return False
        return not (all_are_one_of(facts.owners, known_as) and facts.part_found)

    def _unless_denied(self, decision: T | Deny) -> T:
        if isinstance(decision, Deny):
            raise self._denied(decision)
        return decision

    def _denied(self, deny: Deny) -> Denied:
        self._metrics.decisions.labels("deny", deny.reason.value).inc()
        if deny.reason is Reason.SHARED_UID:
            self._report_shared(1)
        return Denied(deny.reason, deny.series)


def _tell(step: Span, decision: object) -> None:
    """The decision, without whom or what it is about."""
    step.set(OUTCOME, "deny" if isinstance(decision, Deny) else "permit")
    if isinstance(decision, Deny):
        step.set(REASON, decision.reason.value)
