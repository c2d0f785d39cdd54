"""Decide on the token of a request, and on the patient whom it may reach (SIA-10..16, 50..52).

Facts are brought to ``access.decision``, and what it decides is enforced. Each decision is counted;
each refusal is raised as ``Denied``.
"""

from collections.abc import Callable, Collection, Sequence, Set
from typing import Any, TypeVar

from sidecar.access.decision import decide_capability, decide_patient, decide_read
from sidecar.access.facts import PatientFacts, Policy, Token
from sidecar.access.permits import (
    Capability,
    Deny,
    Interaction,
    Operation,
    PatientPermit,
    token_hash,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import ScopeContext
from sidecar.audit.record import AccessRecord
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.capability_urls import CapabilityUrls
from sidecar.authorization.decision_log import DecisionLog
from sidecar.common.errors import BadRequest
from sidecar.common.spans import OUTCOME, REASON, Span, measure, span
from sidecar.patients.backend_clients import BackendClients
from sidecar.tokens.bearer import MalformedCredentials, bearer_token
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.rejection import TokenRejected

T = TypeVar("T")


class PatientAuthorizer:
    """Decides on tokens and patients.

    ``understands(constraint)``: whether this constraint of a scope can be evaluated. ``clients``:
    backend clients, ``None``: there are none. ``clock``: seconds since 1970.
    """

    def __init__(
        self,
        tokens: TokenCache,
        decisions: DecisionLog,
        audit: AuditTrail,
        *,
        understands: Callable[[str], bool],
        policy: Policy,
        clients: BackendClients | None,
        capabilities: CapabilityUrls | None,
        clock: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self.decisions = decisions
        self.audit = audit
        self._understands = understands
        self._policy = policy
        self._clients = clients
        self.capabilities = capabilities
        self._clock = clock

    async def token(self, record: AccessRecord, authorization: Sequence[str]) -> Token:
        """Return the facts of an access token (SIA-10), or raise ``Denied``.

        ``authorization``: the request's header lines of that name.
        """
        try:
            bearer = bearer_token(authorization)
        except MalformedCredentials:
            raise self.decisions.denied(record, Deny(Reason.MALFORMED_TOKEN)) from None
        if bearer is None:
            raise self.decisions.denied(record, Deny(Reason.MISSING_TOKEN))
        record.bearer, record.token_hash = bearer, self.audit.token_hash(bearer)
        reason = Reason.INACTIVE_TOKEN
        with measure("token"):
            try:
                token = record.token = await self._tokens.validate(bearer)
            except TokenRejected as rejected:
                token, reason = None, rejected.reason
        if token is None:
            raise self.decisions.denied(record, Deny(reason))
        return token

    async def capability(
        self,
        record: AccessRecord,
        authorization: Sequence[str],
        sealed: str,
        study: str | None,
        operation: Operation,
    ) -> tuple[Token, PatientPermit, Capability]:
        """Permit ``operation`` on ``study`` (``None``: the capability's), or raise ``Denied``.

        The token comes first, as everywhere; what is decided on a token is decided on it at each
        use (SIA-50, 52).
        """
        token = await self.token(record, authorization)
        opened = None if self.capabilities is None else self.capabilities.unseal(sealed)
        if opened is None:
            raise self.decisions.denied(record, Deny(Reason.UNKNOWN_CAPABILITY))
        record.patient = opened.patient
        refused = decide_capability(
            opened, study, operation, shown=token_hash(record.bearer or ""), now=self._clock()
        )
        if refused is not None:
            raise self.decisions.denied(record, refused)
        permit = await self.permit(record, token, Interaction.RETRIEVE, opened.patient)
        return token, permit, opened

    async def permit(
        self,
        record: AccessRecord,
        token: Token,
        interaction: Interaction,
        patient: str | None = None,
    ) -> PatientPermit:
        """Permit ``interaction`` on the imaging of ``patient`` (``None``: the token's).

        Raises ``Denied``, and ``Unavailable`` when a client's patients cannot be looked up.
        """
        record.asks_for((token.patient if patient is None else patient) or None)
        return self._permitted(record, await self._decide_patient(token, interaction, patient))

    async def permit_read(self, record: AccessRecord, token: Token) -> PatientPermit | None:
        """Permit reading what is named by its id, for the token's patient.

        A backend client's token has none: ``None``, and ``permit_owner`` decides. Raises
        ``Denied``, and ``Unavailable`` when a client's patients cannot be looked up.
        """
        record.asks_for(token.patient)
        decision = await self._decide_patient(token, Interaction.READ, None)
        if isinstance(decision, Deny) and decision.reason is Reason.NO_PATIENT_NAMED:
            return None
        return self._permitted(record, decision)

    async def permit_owner(
        self, record: AccessRecord, token: Token, owners: Collection[str]
    ) -> PatientPermit:
        """Permit a backend client to read what is the only one's of ``owners`` (FHIR ids).

        Nothing is known yet but that. Raises what ``permit_read`` raises.
        """
        owner = next(iter(owners)) if len(owners) == 1 else ""
        record.asks_for(owner or None)
        decision = await self._decide_patient(token, Interaction.READ, owner)
        # What is another's and what is not there are refused alike (SIA-45), whatever else the
        # token is for.
        if isinstance(decision, Deny) and decision.reason is not Reason.EXPIRED_TOKEN:
            decision = Deny(Reason.FOREIGN if owners else Reason.ABSENT)
        return self._permitted(record, decision)

    def _permitted(self, record: AccessRecord, decision: PatientPermit | Deny) -> PatientPermit:
        permit = self._unless_denied(record, decision)
        self.decisions.permitted(permit.interaction.value)
        return permit

    async def may_search(self, record: AccessRecord, token: Token, patient: str | None) -> None:
        """Raise ``Denied`` for what no parameter of a search can mend: 401 and 403 before 400."""
        decision = await self._decide_patient(token, Interaction.SEARCH, patient)
        if isinstance(decision, Deny) and decision.reason is not Reason.NO_PATIENT_NAMED:
            record.asks_for((token.patient if patient is None else patient) or None)
            raise self.decisions.denied(record, decision)

    async def permit_search(
        self, record: AccessRecord, token: Token, named: Set[str]
    ) -> PatientPermit:
        """Permit the search of the one patient who is ``named`` (SIA-22; none: the token's own).

        Raises what ``permit`` raises, and ``BadRequest`` for several patients, each permitted.
        """
        permits = [
            await self.permit(record, token, Interaction.SEARCH, patient)
            for patient in sorted(named) or (None,)
        ]
        if len(permits) > 1:  # Each of them may be a backend client's.
            raise BadRequest("A search is for one patient.", reason="several_patients")
        return permits[0]

    def unless_own(
        self, record: AccessRecord, named: str, own: Collection[str], shared: Collection[str]
    ) -> None:
        """Raise ``Denied`` for a FHIR resource that is not of ``own``: see ``decide_read``."""
        self._unless_denied(record, decide_read(named, own, shared))

    async def _decide_patient(
        self, token: Token, interaction: Interaction, patient: str | None
    ) -> PatientPermit | Deny:
        client = None
        if self._clients is not None and any(
            grant.context is ScopeContext.SYSTEM for grant in token.grants
        ):
            client = await self._clients.client(token.client_id)
        constraints = [grant.constraint for grant in token.grants if grant.constraint is not None]
        understood = frozenset(filter(self._understands, constraints))
        with span("decide patient") as step:
            facts = PatientFacts(self._policy, client, understood, self._clock())
            decision = decide_patient(token, interaction, patient, facts)
            note(step, decision)
        return decision

    def _unless_expired(self, record: AccessRecord, token: Token) -> None:
        """Raise ``Denied`` if the token has expired since its patient was decided on.

        A body, or a place, may have been waited for.
        """
        if not self._clock() < token.expires_at:  # As in ``decide_patient``.
            raise self.decisions.denied(record, Deny(Reason.EXPIRED_TOKEN))

    def _unless_denied(self, record: AccessRecord, decision: T | Deny) -> T:
        if isinstance(decision, Deny):
            raise self.decisions.denied(record, decision)
        return decision


def note(step: Span, decision: Any) -> None:
    """Write the decision into its span, without whom or what it is about."""
    step.set(OUTCOME, "deny" if isinstance(decision, Deny) else "permit")
    if isinstance(decision, Deny):
        step.set(REASON, decision.reason.value)
