"""What a permit shows of a patient's studies: the only way by which handlers get at lists of them.

For a permit that leads everywhere it is the archive's list as it is. For any other, each study is
described, and ``access.visibility`` says what is left of it; what is hidden is in no row, count,
modality or search result.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from sidecar.access.facts import DescribedStudy, Rule, all_are_one_of, is_shared
from sidecar.access.permits import ALL_SERIES, PatientPermit, includes
from sidecar.access.visibility import (
    HIDDEN,
    WHOLE_STUDY,
    Hidden,
    Visible,
    is_hidden_anyway,
    visibility,
    visible_by_rules,
)
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.scope_constraints import Constraints
from sidecar.authorization.study_facts import described, series_uid, without_hidden
from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import batched, in_slices
from sidecar.dicom.json_model import Row
from sidecar.dicom.uid import is_uid
from sidecar.fhir.imaging_study import Site, study_uid
from sidecar.pacs.ownership import KnownAs
from sidecar.pacs.studies import AsOf, Studies
from sidecar.pacs.study_lists import Listing

KEPT = 2_000
"""Patients' described lists, each as long as the list itself is remembered."""


class AllStudies(Enum):
    """The type of ``ALL_STUDIES``."""

    ALL_STUDIES = "all studies"


ALL_STUDIES: Final = AllStudies.ALL_STUDIES
"""All studies of a patient: a permit leads everywhere."""


@dataclass(frozen=True, slots=True)
class VisibleStudies:
    """A patient's studies as one permit shows them.

    ``rows`` and ``series`` are what is shown; ``listing`` is all that there is, for the catalog
    alone. ``visible``: StudyInstanceUID -> what is left of it, ``ALL_STUDIES`` for a permit that
    leads everywhere.
    """

    studies: Studies
    known_as: KnownAs
    listing: Listing
    oldest: AsOf
    rows: Sequence[Row]
    series: Mapping[str, Sequence[Row]] | None
    visible: Mapping[str, Visible] | AllStudies

    def of(self, study: str) -> Visible | Hidden:
        """Return what may be seen of a study of the list."""
        if study in self.listing.shared:
            return HIDDEN
        return WHOLE_STUDY if self.visible is ALL_STUDIES else self.visible.get(study, HIDDEN)

    def last_updated(self, seen: Mapping[str, datetime]) -> dict[str, datetime]:
        """When each study was last seen to change, for whom this is shown: the end of a hold is a change."""
        found = dict(seen)
        for uid, one in self._limited().items():
            if one.since is not None and uid in found:
                found[uid] = max(found[uid], datetime.fromtimestamp(one.since, UTC))
        return found

    async def series_of(self, studies: Iterable[str]) -> dict[str, list[Row]]:
        """Return the series rows that are shown, by StudyInstanceUID."""
        wanted = list(studies)
        if (series := self.series) is not None and self.visible is not ALL_STUDIES:
            return dict(await in_slices((study, list(series.get(study, ()))) for study in wanted))
        return await self.studies.series_of(wanted, self.listing, self.known_as, self.oldest)

    async def instances(self, study: str, series: str) -> list[Row]:
        """Return the instance rows of a series, none of one that is not shown."""
        if not self.shows_row(study, series):
            return []
        return await self.studies.instances(study, series, self.known_as, self.oldest)

    async def holding(self, keyword: str, uid: str, studies: Iterable[str]) -> set[str]:
        """Return those of ``studies`` in which an instance is shown whose ``keyword`` is ``uid``."""
        series = {
            study: one.series
            for study, one in self._limited().items()
            if one.series is not ALL_SERIES
        }
        return await self.studies.holding(
            keyword, uid, studies, self.known_as, self.oldest, only=series
        )

    def shows_row(self, study: str, series: str | None) -> bool:
        """Whether a row of this study, and series, is shown."""
        seen = self.of(study)
        return isinstance(seen, Visible) and (series is None or includes(seen.series, series))

    def row(self, row: Row) -> Row:
        """A study's row, without what is hidden of it."""
        seen = self.of(study_uid(row))
        if isinstance(seen, Hidden) or seen.is_complete:
            return row
        return without_hidden(row, (self.series or {}).get(study_uid(row), ()))

    def _limited(self) -> Mapping[str, Visible]:
        """Return what is left of each study that the permit had to be asked about."""
        return {} if self.visible is ALL_STUDIES else self.visible


class VisibleStudiesLookup:
    """Makes them. ``clock``: seconds since 1970."""

    def __init__(
        self,
        studies: Studies,
        site: Site,
        constraints: Constraints,
        *,
        rules: tuple[Rule, ...] = (),
        external: ExternalPolicy | None = None,
        invalidation: Invalidation | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._studies = studies
        self._site = site
        self._constraints = constraints
        self._rules = rules
        self._external = external
        self._lists: LoadingCache[tuple[KnownAs, frozenset[str]], _DescribedList] = LoadingCache(
            invalidation or Invalidation(),
            lambda key: {known.patient_id for known in key[0]},
            max_entries=KEPT,
            ttl_seconds=math.inf,
        )
        self._clock = clock

    def understood(self, constraints: Iterable[str]) -> frozenset[str]:
        """Those constraints of scopes that can be evaluated."""
        return self._constraints.understood(constraints)

    async def of(
        self, permit: PatientPermit, known_as: KnownAs, *, fresh: bool = False
    ) -> VisibleStudies:
        """Return the view of the permitted patient's studies.

        ``fresh``: not what is remembered (at a limited rate).
        """
        listing = await self._studies.of_patient(known_as, fresh=fresh)
        oldest = AsOf(listing.asked)
        if not permit.is_limited:
            return VisibleStudies(
                self._studies, known_as, listing, oldest, listing.rows, listing.series, ALL_STUDIES
            )
        described_list = await self._list(listing, known_as, permit.constraints, oldest)
        now = self._clock()
        facts = described_list.facts
        if permit.caller is not None:
            facts = await self._judged_all(permit, facts)
        decided = await in_slices(
            (uid, visibility(permit, some, now)) for uid, some in facts.items()
        )
        seen = {uid: one for uid, one in decided if isinstance(one, Visible)}
        left = dict(
            await in_slices(
                (uid, _left(described_list.series.get(uid, ()), one)) for uid, one in seen.items()
            )
        )
        view = VisibleStudies(self._studies, known_as, listing, oldest, (), left, seen)
        return replace(
            view,
            rows=await in_slices(
                view.row(row) if study_uid(row) in seen else None for row in listing.rows
            ),
        )

    def forget_listed(self, study: str, known_as: KnownAs) -> None:
        """A read saw that the UID of ``study`` is somebody else's, too: no remembered list shows it any longer."""
        self._studies.forget_listed(study, known_as)

    async def refused(
        self, studies: Iterable[str], known_as: KnownAs
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return those of ``studies`` that a read refuses by their owners, and those of them that are shared.

        Shared: they are the patient's, and under the same UID somebody else's.
        """
        owners = await self._studies.owners.of(studies, known_as)
        refused = frozenset(uid for uid, one in owners.items() if not all_are_one_of(one, known_as))
        return refused, frozenset(uid for uid in refused if is_shared(owners[uid], known_as))

    async def described(
        self, permit: PatientPermit, study: str, known_as: KnownAs
    ) -> tuple[tuple[DescribedStudy, ...], bool]:
        """Return the facts on the patient's studies under this UID, for a permit that is limited.

        With them: whether the UID is somebody else's, too; then there are none.
        """
        facts, shared = await self._describe_one(permit, study, known_as, fresh=False)
        if isinstance(visibility(permit, facts, self._clock()), Hidden):
            # It may have come, or changed, a moment ago. What is hidden and what is not there take
            # the same time.
            facts, shared = await self._describe_one(permit, study, known_as, fresh=True)
        return facts, shared

    async def _describe_one(
        self, permit: PatientPermit, study: str, known_as: KnownAs, *, fresh: bool
    ) -> tuple[tuple[DescribedStudy, ...], bool]:
        listing = await self._studies.of_patient(known_as, fresh=fresh)
        # All of them, although one is wanted: else it would take longer for a study that is there.
        found = await self._list(listing, known_as, permit.constraints, AsOf(listing.asked))
        facts = found.facts.get(study, ())
        if permit.caller is not None:
            facts = await self._judged(permit, study, facts)
        return facts, study in listing.shared

    async def _list(
        self, listing: Listing, known_as: KnownAs, constraints: frozenset[str], oldest: AsOf
    ) -> "_DescribedList":
        """Describe every study of a listing; kept as long as the listing is."""
        key = (known_as, constraints)
        kept = self._lists.peek(key)
        if kept is not None and kept.listing is listing:
            oldest.note(kept.oldest)
            return kept
        stamp = self._lists.stamp(key)
        usable = await in_slices(row if is_uid(study_uid(row)) else None for row in listing.rows)
        asked = AsOf(listing.asked)
        series = await self._studies.series_of(map(study_uid, usable), listing, known_as, asked)
        facts: dict[str, tuple[DescribedStudy, ...]] = {}
        # Several under one UID, which the patient has under several identifiers.
        named = ((study_uid(row), row) for row in (*usable, *listing.copies))
        for uid, one in await in_slices(
            (uid, self._describe(row, series.get(uid, ()), constraints)) for uid, row in named
        ):
            facts[uid] = (*facts.get(uid, ()), one)
        oldest.note(asked.moment)
        found = _DescribedList(listing, asked.moment, series, facts)
        self._lists.put(key, found, stamp)
        return found

    def _describe(
        self, row: Row, series: Sequence[Row], constraints: frozenset[str]
    ) -> DescribedStudy:
        """A constraint holds only if it does so without what rules hide, too: else a scope could ask for that."""
        one = described(row, series, self._site, self._constraints, constraints)
        left = (
            visible_by_rules(self._rules, one, self._clock())
            if one.satisfies and self._rules
            else HIDDEN
        )
        if isinstance(left, Hidden) or left.is_complete:
            return one
        kept = _left(series, left)
        return replace(
            one,
            satisfies=one.satisfies
            & self._constraints.satisfied(constraints, without_hidden(row, kept), kept),
        )

    async def _judged_all(
        self, permit: PatientPermit, facts: Mapping[str, tuple[DescribedStudy, ...]]
    ) -> dict[str, tuple[DescribedStudy, ...]]:
        judged: dict[str, tuple[DescribedStudy, ...]] = {}
        for few in batched(tuple(facts.items())):
            found = await asyncio.gather(*(self._judged(permit, uid, some) for uid, some in few))
            judged |= {uid: one for (uid, _), one in zip(few, found, strict=True)}
        return judged

    async def _judged(
        self, permit: PatientPermit, study: str, facts: tuple[DescribedStudy, ...]
    ) -> tuple[DescribedStudy, ...]:
        """With the external policy's verdict, where it is permitted here.

        Without a policy there is none.
        """
        external = self._external
        if external is None or is_hidden_anyway(permit, facts, self._clock()):
            return facts
        contexts = sorted({way.context for way in permit.ways})
        return tuple(
            [
                replace(
                    one,
                    verdicts={
                        name: await external.verdict(permit, name, study, one) for name in contexts
                    },
                )
                for one in facts
            ]
        )


@dataclass(frozen=True, slots=True)
class _DescribedList:
    """What is known of the studies of a listing.

    ``oldest``: when the oldest of it was asked for.
    """

    listing: Listing
    oldest: datetime
    series: Mapping[str, Sequence[Row]]
    facts: Mapping[str, tuple[DescribedStudy, ...]]


def _left(series: Sequence[Row], seen: Visible) -> list[Row]:
    return [row for row in series if includes(seen.series, series_uid(row) or "")]
