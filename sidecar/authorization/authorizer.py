"""Decide on the studies that a request asks for: patient -> identifiers, study -> owners.

Facts are brought to ``access.decision``, and what it decides is enforced. Each decision is counted;
each refusal is raised as ``Denied``.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from sidecar.access.decision import decide_identifiers, decide_study, decide_visible
from sidecar.access.facts import AnswerKind, KnownAs, Part, Policy, StudyFacts, Token
from sidecar.access.permits import (
    ALL_STUDIES,
    AllStudies,
    Deny,
    HeaderPermit,
    Interaction,
    PatientPermit,
    SearchPermit,
    StudyPermit,
)
from sidecar.access.reasons import Reason
from sidecar.access.visibility import WHOLE_STUDY, Hidden, Visible
from sidecar.audit.record import AccessRecord
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.capability_urls import CapabilityUrls, Issued
from sidecar.authorization.decision_log import DecisionLog
from sidecar.authorization.limits import QueryLimits
from sidecar.authorization.patient_authorizer import PatientAuthorizer, note
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.authorization.visible_studies_lookup import VisibleStudiesLookup
from sidecar.common.errors import Problem
from sidecar.common.invalidation import Invalidation
from sidecar.common.spans import measure, span
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.issuer_check import Issuers
from sidecar.pacs.ownership import UNNAMED_SECONDS, Ownership
from sidecar.patients.backend_clients import BackendClients
from sidecar.patients.mapping import PatientMapping
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.cache import TokenCache

Asked_co = TypeVar("Asked_co", covariant=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AuthorizedRequest(Generic[Asked_co]):
    """A request whose token reaches the patient; ``Authorizer.authorize`` alone makes it.

    ``record``: what the audit trail will say. ``token`` and ``permit``: who asks, and what of the
    patient is permitted. ``search``: the permit to search rows, with the patient's identifiers.
    ``asked``: what the request asks for, parsed. ``visible``: the studies that ``permit`` shows,
    ``ALL_STUDIES`` for a permit without limits.

    Who needs a second look (after a wait, or a correction that was seen in a stream) makes another
    one: ``Authorizer.decide_again``, or a retrieval's ``decide_from_token_again``.
    """

    record: AccessRecord
    token: Token
    permit: PatientPermit
    search: SearchPermit
    asked: Asked_co
    visible: VisibleStudies | AllStudies

    @property
    def known_as(self) -> KnownAs:
        """All identifiers by which the archive may know the patient."""
        return self.search.known_as

    def seen(self, study: str) -> Visible | Hidden | AllStudies:
        """Return what may be seen of ``study``."""
        return ALL_STUDIES if self.visible is ALL_STUDIES else self.visible.of(study)


Request: TypeAlias = AuthorizedRequest[object]


class Authorizer(PatientAuthorizer):
    """Decides on the patient, and on the studies that a request asks for."""

    def __init__(
        self,
        tokens: TokenCache,
        patients: PatientMapping,
        ownership: Ownership,
        instances: InstancePatients,
        issuers: Issuers,
        metrics: Metrics,
        audit: AuditTrail,
        visible_studies: VisibleStudiesLookup,
        *,
        policy: Policy,
        invalidation: Invalidation,
        clients: BackendClients | None = None,
        capabilities: CapabilityUrls | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            tokens,
            DecisionLog(metrics),
            audit,
            understands=visible_studies.constraints.understands,
            policy=policy,
            clients=clients,
            capabilities=capabilities,
            clock=clock,
        )
        self._patients = patients
        self._ownership = ownership
        self._instances = instances
        self._issuers = issuers
        self._visible_studies = visible_studies
        self._invalidation = invalidation
        self.queries = QueryLimits()

    async def owners(self, token: Token, study: str | None) -> frozenset[str]:
        """Return the FHIR ids of those whose the study may be, none for ``None``.

        It permits nothing: a permit for one of them leads to what ``authorize`` and ``study`` find.
        """
        if study is None:
            return frozenset()
        async with self.queries.place(token):
            owners = await self._ownership.owners(study, known_as=frozenset())
        return await self._patients.known_as(owners)

    async def authorize(
        self,
        record: AccessRecord,
        token: Token,
        permit: PatientPermit,
        asked: T,
        *,
        study: str | None,
        named: Iterable[tuple[str | None, str]] = (),
        fresh: bool = False,
    ) -> AuthorizedRequest[T]:
        """Work out the identifiers of the permitted patient, and which studies are visible.

        ``study``: the only one that is asked for, ``None``: any. ``named``: systems and values of
        identifiers that the request names; they must be the patient's (SIA-22). ``fresh``: by
        nothing that is remembered (at a limited rate). Raises ``Denied``, and the ``Problem`` of
        whoever cannot be asked.
        """
        self._unless_expired(record, token)
        with measure("patient"):
            known_as = await self._patients.identifiers(permit.patient, fresh=fresh)
        identifiers = [self._patients.named(system, value) for system, value in named]
        search = self._unless_denied(record, decide_identifiers(permit, known_as, identifiers))
        with measure("issuers"):
            await self._issuers.check(known_as)
        visible: VisibleStudies | AllStudies
        if not permit.is_limited:
            visible = ALL_STUDIES
        elif study is None:
            with span("fetch"):
                visible = await self._visible_studies.of(permit, search, fresh=fresh)
        else:
            with measure("description"):
                visible = await self._visible_studies.of_study(permit, search, study, fresh=fresh)
        return AuthorizedRequest(record, token, permit, search, asked, visible)

    async def studies(self, request: Request, *, fresh: bool = False) -> VisibleStudies:
        """Return the visible studies of a request, also of one without limits.

        ``fresh``: not what is remembered (at a limited rate).
        """
        if request.visible is not ALL_STUDIES:
            return request.visible
        with span("fetch"):
            return await self._visible_studies.of(request.permit, request.search, fresh=fresh)

    async def study(self, request: Request, part: Part, answer: AnswerKind) -> StudyPermit:
        """Permit ``part`` of the archive, or raise ``Denied``. All refusals look the same (SIA-45).

        A study that is drawn as a whole is decided by what the archive says now.
        """
        record, search = request.record, request.search
        record.part = part
        seen = self._unless_denied(
            record, decide_visible(request.permit, part, request.seen(part.study), answer)
        )
        with measure("ownership"):
            # What names its patient may rest on owners that are as old as they are remembered.
            oldest = {AnswerKind.UNNAMED: UNNAMED_SECONDS, AnswerKind.DRAWN: 0}
            max_age = oldest.get(answer, math.inf)
            facts = self._ownership.cached_facts(part, search.known_as, max_age_seconds=max_age)
            if facts is None:
                facts = await self.facts(request, part, max_age_seconds=max_age)
            if facts.part_found and answer is AnswerKind.UNNAMED:
                inside = self._instances.cached(part, search.known_as)
                facts = StudyFacts(facts.owners, part_found=True, inside=inside)
        decision = _decide_study(search, part, seen, facts, answer)
        if isinstance(decision, HeaderPermit):
            with measure("ownership"):
                async with self.queries.place(request.token):
                    inside = await self._instances.of(decision)
            facts = replace(facts, inside=inside)
            decision = _decide_study(search, part, seen, facts, answer)
        if isinstance(decision, Deny) and decision.reason is Reason.SHARED_UID:
            self._visible_studies.forget_listed(part.study, search.known_as)
        if isinstance(decision, Deny) and facts.inside is not None:
            is_corrected = await self.is_corrected(request, part)
            self.decisions.foreign_inside(record, is_corrected=is_corrected)
        if not isinstance(decision, StudyPermit):
            deny = decision if isinstance(decision, Deny) else Deny(Reason.FOREIGN)
            raise self.decisions.denied(record, deny)
        self.decisions.permitted("study")
        return decision

    async def decide_again(
        self, request: AuthorizedRequest[T], part: Part, answer: AnswerKind
    ) -> StudyPermit:
        """Take a second look: permit ``part`` by facts that are worked out anew.

        It is for what changed after ``request`` was authorized. Raises what ``authorize`` and
        ``study`` raise.
        """
        again = await self.authorize(
            request.record, request.token, request.permit, request.asked, study=part.study
        )
        return await self.study(again, part, answer)

    async def issue(self, request: Request, studies: Iterable[str]) -> dict[str, Issued]:
        """Return an address for each of the studies that the token may fetch, by UID.

        Without capabilities for none.
        """
        bearer, token = request.record.bearer, request.token
        if self.capabilities is None or bearer is None:
            return {}
        patient = request.permit.patient
        permit = await self._decide_patient(token, Interaction.RETRIEVE, patient)
        if isinstance(permit, Deny):
            return {}
        # What a retrieval may see need not be what the search may see.
        with span("fetch"):
            view = await self._visible_studies.of(permit, request.search)
        issued = {
            uid: self.capabilities.issue(bearer, token.expires_at, patient, uid)
            for uid in studies
            if isinstance(view.of(uid), Visible)
        }
        self.decisions.issued(len(issued))
        return issued

    async def unrefused(self, request: Request, studies: Iterable[str]) -> frozenset[str]:
        """Return those of the listed ``studies`` that a read does not refuse by their owners."""
        listed = tuple(dict.fromkeys(studies))
        refused = await self._visible_studies.refused(listed, request.known_as)
        shared = [uid for uid, reason in refused.items() if reason is Reason.SHARED_UID]
        self.decisions.left_out(request.record, shared)
        return frozenset(listed) - refused.keys()

    async def facts(
        self, request: Request, part: Part, *, max_age_seconds: float = math.inf
    ) -> StudyFacts:
        """Return the owners of ``part``, asked for in a place of the caller. Raises ``Problem``."""
        async with self.queries.place(request.token):
            return await self._ownership.facts(
                part, request.known_as, max_age_seconds=max_age_seconds
            )

    def forget_study(self, study: str, known_as: KnownAs) -> None:
        """Forget what is remembered of a study, so that the archive is asked anew.

        Owners, parts and what instances name are forgotten for whoever asks, lists that show it for
        this patient.
        """
        self._invalidation.forget_study(study)
        self._visible_studies.forget_listed(study, known_as)

    async def is_corrected(self, request: Request, part: Part) -> bool:
        """Return whether the archive says now that ``part`` is absent, or not only this patient's.

        What was remembered of the study is forgotten in any case. ``False`` when the archive does
        not say it: what no correction explains is an alarm.
        """
        self.forget_study(part.study, request.known_as)
        try:
            facts = await self.facts(request, part, max_age_seconds=0)
        except Problem:
            return False
        decision = decide_study(request.search, part, WHOLE_STUDY, facts, AnswerKind.LISTED)
        return isinstance(decision, Deny)


def _decide_study(
    search: SearchPermit, part: Part, seen: Visible, facts: StudyFacts, answer: AnswerKind
) -> StudyPermit | HeaderPermit | Deny:
    with span("decide study") as step:
        decision = decide_study(search, part, seen, facts, answer)
        note(step, decision)
    return decision
