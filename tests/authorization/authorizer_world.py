"""An authorizer with everything that it asks, each with a known answer."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.access.facts import (
    AnswerKind,
    KnownAs,
    Part,
    PatientIdentifier,
    Policy,
    StudyFacts,
    Token,
)
from sidecar.access.permits import (
    HeaderPermit,
    Interaction,
    PatientPermit,
    SearchPermit,
    StudyPermit,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import parse_scopes
from sidecar.access.visibility import Visible
from sidecar.audit.record import AccessRecord
from sidecar.authorization.authorizer import Authorizer, Request
from sidecar.authorization.decision_log import Denied
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.authorization.visible_studies_lookup import VisibleStudiesLookup
from sidecar.common.errors import Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.issuer_check import Issuers
from sidecar.pacs.listing import Listing
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.studies import AsOf, Studies
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.cache import TokenCache
from tests.common.peer import Clock
from tests.fakes.site import NO_AUDIT, NO_VIEWS
from tests.permits import (
    make_policy,
    patient_permit,
    search_permit,
    study_facts,
)

OWN, OTHER = PatientIdentifier("p1"), PatientIdentifier("p2")
NOW = 1_000_000.0
GOOD = "Bearer a-good-token"
DOWN = Unavailable("Not now.", reason="down")
PERMIT = patient_permit("p1", Interaction.RETRIEVE)
PART = Part("1.2", "1.3", "1.4")
RECORD = AccessRecord("r1")


def token(
    scope: str = "patient/ImagingStudy.rs", patient: str | None = "p1", expires_at: float = NOW + 60
) -> Token:
    """The facts of a token."""
    return Token(tuple(parse_scopes(scope)), expires_at, patient)


class Tokens(TokenCache):
    """Knows one token."""

    def __init__(self) -> None:
        self.known: Token | Exception | None = token()
        self.asked: list[str] = []

    async def validate(self, bearer: str) -> Token | None:
        """As the cache does."""
        self.asked.append(bearer)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known


class Patients:
    """Knows one patient."""

    def __init__(self) -> None:
        self.known: frozenset[PatientIdentifier] | Exception = frozenset({OWN})
        self.asked: list[str] = []

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """As the mappings do."""
        self.asked.append(patient)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known

    async def known_as(self, owners: KnownAs) -> frozenset[str]:
        """As the mapping ``direct`` does."""
        return frozenset(owner.patient_id for owner in owners)

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Every identifier system is the PACS's."""
        return frozenset({PatientIdentifier(value)})

    async def close(self) -> None:
        """Nothing is open."""


class Facts(Ownership):
    """Knows one answer, and remembers ``remembered``."""

    def __init__(self) -> None:
        self.known: StudyFacts | Exception = study_facts(frozenset({OWN}), part_found=True)
        self.remembered: StudyFacts | None = None
        self.asked: list[Part] = []
        self.owners_asked: list[str] = []
        self.ages: list[float] = []

    def cached_facts(
        self,
        part: Part,
        known_as: frozenset[PatientIdentifier],
        *,
        max_age_seconds: float = math.inf,
    ) -> StudyFacts | None:
        """As the cache does, whatever the age."""
        return self.remembered

    async def facts(
        self,
        part: Part,
        known_as: frozenset[PatientIdentifier],
        *,
        max_age_seconds: float = math.inf,
    ) -> StudyFacts:
        """As the PACS says."""
        self.asked.append(part)
        self.ages.append(max_age_seconds)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known

    async def owners(
        self,
        study: str,
        known_as: frozenset[PatientIdentifier],
        *,
        max_age_seconds: float = math.inf,
    ) -> frozenset[PatientIdentifier]:
        """As the PACS says."""
        self.owners_asked.append(study)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known.owners


class Instances(InstancePatients):
    """Knows one answer, and remembers ``remembered``."""

    def __init__(self) -> None:
        self.known: frozenset[PatientIdentifier] | Exception = frozenset({OWN})
        self.remembered: frozenset[PatientIdentifier] | None = None
        self.asked: list[HeaderPermit] = []

    def cached(
        self, part: Part, known_as: frozenset[PatientIdentifier]
    ) -> frozenset[PatientIdentifier] | None:
        """As the cache does."""
        return self.remembered

    async def of(self, permit: HeaderPermit) -> frozenset[PatientIdentifier]:
        """As an instance says."""
        self.asked.append(permit)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known


class Numbers(Issuers):
    """Stands for what the PACS says of numbers without issuer."""

    def __init__(self) -> None:
        self.failing: Exception | None = None

    async def check(self, known_as: Iterable[PatientIdentifier]) -> None:
        """As the PACS says."""
        if self.failing is not None:
            raise self.failing


class World:
    """A authorizer with everything that it asks."""

    def __init__(
        self, policy: Policy | None = None, views: VisibleStudiesLookup = NO_VIEWS
    ) -> None:
        self.tokens, self.patients, self.facts, self.metrics = (
            Tokens(),
            Patients(),
            Facts(),
            Metrics("test"),
        )
        self.clock, self.issuers, self.instances = Clock(NOW), Numbers(), Instances()
        self.invalidation = Invalidation()
        self.authorizer = Authorizer(
            self.tokens,
            self.patients,
            self.facts,
            self.instances,
            self.issuers,
            self.metrics,
            NO_AUDIT,
            views,
            policy=policy or make_policy(),
            invalidation=self.invalidation,
            clock=self.clock,
        )

    def decisions(self) -> dict[tuple[str, str], float]:
        """What was counted."""
        (family,) = (
            metric
            for metric in self.metrics.registry.collect()
            if metric.name == "smart_imaging_access_decisions"
        )
        return {
            (sample.labels["decision"], sample.labels["reason"]): sample.value
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    async def token(self, *authorization: str) -> Token:
        """The token in these Authorization headers."""
        return await self.authorizer.token(RECORD, authorization)

    async def study(self, answer: AnswerKind) -> StudyPermit:
        """The permit for ``PART``, by a request that is authorized for it."""
        request = await self.authorizer.authorize(RECORD, token(), PERMIT, None, study=PART.study)
        return await self.authorizer.study(request, PART, answer)

    async def refused(self, call: Any) -> Reason:
        """The reason why ``call`` was refused, which is counted once and is all that the exception
        says.
        """
        before = self.decisions()
        with pytest.raises(Denied) as denied:
            await call
        reason = denied.value.reason
        assert str(denied.value) == reason.value
        key = ("deny", reason.value)
        assert self.decisions() == {**before, key: before.get(key, 0) + 1}
        return reason


class Lists(VisibleStudiesLookup):
    """Notes which lists are forgotten."""

    def __init__(self) -> None:
        self.constraints = NO_VIEWS.constraints
        self.forgotten: list[tuple[str, frozenset[PatientIdentifier]]] = []

    def forget_listed(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """As ``VisibleStudiesLookup``."""
        self.forgotten.append((study, frozenset(known_as)))


class Views(Lists):
    """Shows ``visible``; ``asked`` has what was looked up, and whether it had to be fresh."""

    def __init__(self, visible: Mapping[str, Visible], shared: Iterable[str] = ()) -> None:
        super().__init__()
        self.asked: list[tuple[str | None, bool]] = []
        self._studies = cast("Studies", SimpleNamespace(owners=SimpleNamespace(of=self._owners)))
        listing = Listing([], datetime(2024, 1, 1, tzinfo=UTC), shared=frozenset(shared))
        self.view = VisibleStudies(
            cast("Studies", None), SEARCH, listing, AsOf(listing.asked), (), {}, visible
        )

    async def of(
        self, permit: PatientPermit, search: SearchPermit, *, fresh: bool = False
    ) -> VisibleStudies:
        """As ``VisibleStudiesLookup``."""
        assert search == SEARCH
        self.asked.append((None, fresh))
        return self.view

    async def of_study(
        self, permit: PatientPermit, search: SearchPermit, study: str, *, fresh: bool = False
    ) -> VisibleStudies:
        """As ``VisibleStudiesLookup``."""
        assert search == SEARCH
        self.asked.append((study, fresh))
        return self.view

    async def _owners(
        self, studies: Iterable[str], known_as: frozenset[PatientIdentifier]
    ) -> dict[str, frozenset[PatientIdentifier]]:
        """As the archive says: some are shared, and some are foreign or absent by their name."""
        assert known_as == SEARCH.known_as
        shared = self.view.listing.shared
        owners = {"foreign": {OTHER}, "absent": set[PatientIdentifier]()}
        owners |= {uid: {OWN, OTHER} for uid in shared}
        return {uid: frozenset(owners.get(uid, {OWN})) for uid in studies}


SEARCH = search_permit("p1", frozenset({OWN}))


def record() -> AccessRecord:
    """Return one of a request with a token."""
    made = AccessRecord("r2")
    made.bearer = "a-good-token"
    return made


async def authorized(
    world: World, permit: PatientPermit = PERMIT, study: str | None = None, *, fresh: bool = False
) -> Request:
    """Return a request that is authorized by ``permit``."""
    return await world.authorizer.authorize(
        record(), token(), permit, None, study=study, fresh=fresh
    )
