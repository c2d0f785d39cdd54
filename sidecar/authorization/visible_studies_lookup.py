"""Show those of a patient's studies that a permit leads to.

For a permit without limits these are the archive's list as it is. For any other, each study is
described, and ``access.visibility`` returns what is left of it: what is hidden is in no row, count,
modality or search result.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from sidecar.access.decision import decide_owners
from sidecar.access.facts import DescribedStudy, KnownAs, Rule
from sidecar.access.permits import (
    ALL_STUDIES,
    PatientPermit,
    SearchPermit,
)
from sidecar.access.reasons import Reason
from sidecar.access.visibility import (
    Hidden,
    Visible,
    is_hidden_anyway,
    visibility,
    visible_by_rules,
)
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.scope_constraints import Constraints
from sidecar.authorization.study_facts import (
    described,
    pack_facts,
    shown_series,
    unpack_facts,
    without_hidden,
)
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import batched, for_each, in_slices
from sidecar.dicom.json_model import Packed, PackedRows, Row, packed
from sidecar.dicom.uid import is_uid
from sidecar.fhir.imaging_study import Site, study_uid
from sidecar.fhir.list_snapshot import VIEWS_OF_A_STUDY
from sidecar.pacs.listing import Listing
from sidecar.pacs.studies import AsOf, Studies
from sidecar.pacs.study_lists import LISTS_BYTES


class VisibleStudiesLookup:
    """Look up the visible studies of a permit. ``clock``: seconds since 1970."""

    def __init__(
        self,
        studies: Studies,
        site: Site,
        *,
        rules: tuple[Rule, ...],
        external: ExternalPolicy | None = None,
        invalidation: Invalidation,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._studies = studies
        self._site = site
        self.constraints = Constraints(site)
        self._rules = rules
        self._external = external
        self._lists: LoadingCache[tuple[KnownAs, frozenset[str]], _DescribedList] = LoadingCache(
            invalidation,
            lambda key: {known.patient_id for known in key[0]},
            max_entries=LISTS_BYTES,
            ttl_seconds=math.inf,
            weight=lambda described_list: described_list.listing.weight,
        )
        self._clock = clock

    async def of(
        self, permit: PatientPermit, search: SearchPermit, *, fresh: bool = False
    ) -> VisibleStudies:
        """Return all studies of the patient that the permit shows.

        ``fresh``: not what is remembered (at a limited rate).
        """
        listing = await self._studies.of_patient(search, fresh=fresh)
        if not permit.is_limited:
            oldest = AsOf(listing.asked)
            return VisibleStudies(
                self._studies, search, listing, oldest, listing.rows, listing.series, ALL_STUDIES
            )
        return await self._shown(permit, search, listing, None)

    async def of_study(
        self, permit: PatientPermit, search: SearchPermit, study: str, *, fresh: bool = False
    ) -> VisibleStudies:
        """Return the study, and no other, as a limited permit shows it; without rows of studies.

        A study that is hidden is looked at a second time, without what is remembered: it may have
        come, or changed, a moment ago. What is hidden and what is not there take the same time.
        """
        listing = await self._studies.of_patient(search, fresh=fresh)
        shown = await self._shown(permit, search, listing, study)
        if isinstance(shown.of(study), Hidden):
            listing = await self._studies.of_patient(search, fresh=True)
            shown = await self._shown(permit, search, listing, study)
        return shown

    async def _shown(
        self, permit: PatientPermit, search: SearchPermit, listing: Listing, only: str | None
    ) -> VisibleStudies:
        """Return what a limited permit shows of a listing, or of ``only`` one study of it."""
        oldest = AsOf(listing.asked)
        # All of them, although one is wanted: else it would take longer for a study that is there.
        described_list = await self._list(search, listing, permit.constraints, oldest)
        # What is not there is looked at as if it were: it takes the same time (SIA-45).
        uids = list(described_list.facts) if only is None else [only]
        decided = await self._decide(permit, uids, described_list)
        seen = {
            uid: visible
            for uid, visible in zip(uids, decided, strict=True)
            if isinstance(visible, Visible)
        }
        left = await for_each(
            list(seen.items()),
            lambda item: described_list.left_of(*item),
            lambda item: len(described_list.series.get(item[0], ())),
        )
        rows = [row for row, _ in left if row is not None]
        series = {uid: series_rows for uid, (_, series_rows) in zip(seen, left, strict=True)}
        return VisibleStudies(self._studies, search, listing, oldest, rows, series, seen)

    def forget_listed(self, study: str, known_as: KnownAs) -> None:
        """Forget the patient's lists that show ``study``: its UID is somebody else's, too."""
        self._studies.forget_listed(study, known_as)

    async def refused(self, studies: Iterable[str], known_as: KnownAs) -> dict[str, Reason]:
        """Return those of ``studies`` that a read refuses by their owners, each with the reason."""
        owners = await self._studies.owners.of(studies, known_as)
        decided = {uid: decide_owners(patients, known_as) for uid, patients in owners.items()}
        return {uid: deny.reason for uid, deny in decided.items() if deny is not None}

    async def _list(
        self, search: SearchPermit, listing: Listing, constraints: frozenset[str], oldest: AsOf
    ) -> "_DescribedList":
        """Describe every study of a listing; cached as long as the listing is."""
        key = (search.known_as, constraints)
        cached = self._lists.peek(key)
        if cached is not None and cached.listing is listing:
            oldest.note(cached.oldest)
            return cached
        stamp = self._lists.stamp(key)
        rows = dict(
            await in_slices(
                (uid, row) if is_uid(uid := study_uid(row)) else None for row in listing.rows
            )
        )
        asked = AsOf(listing.asked)
        series = await self._studies.series_of(search, rows, listing, asked)
        facts: dict[str, tuple[bytes, ...]] = {}
        # Several under one UID, which the patient has under several identifiers.
        named = (*rows.items(), *((study_uid(row), row) for row in listing.copies))
        studies = await for_each(
            named,
            lambda study: pack_facts(
                self._describe(study[1], series.get(study[0], ()), constraints)
            ),
            lambda study: len(series.get(study[0], ())),
        )
        for (uid, _), study in zip(named, studies, strict=True):
            facts[uid] = (*facts.get(uid, ()), study)
        oldest.note(asked.moment)
        described_list = _DescribedList(listing, asked.moment, rows, series, facts)
        self._lists.put(key, described_list, stamp)
        return described_list

    def _describe(
        self, row: Row, series: Sequence[Row], constraints: frozenset[str]
    ) -> DescribedStudy:
        """Describe a study by its rows.

        A constraint must hold without what rules hide, too: else a scope could ask for that.
        """
        study = described(row, series, self._site, self.constraints, constraints)
        if not (study.satisfies and self._rules):
            return study
        left = visible_by_rules(self._rules, study, self._clock())
        if isinstance(left, Hidden) or left.is_complete:
            return study
        shown = shown_series(series, left)
        still = self.constraints.satisfied(constraints, without_hidden(row, shown), shown)
        return replace(study, satisfies=study.satisfies & still)

    async def _decide(
        self, permit: PatientPermit, uids: Sequence[str], described_list: "_DescribedList"
    ) -> list[Visible | Hidden]:
        """Return what may be seen of each study, in slices."""
        now = self._clock()

        def rows(uid: str) -> int:
            return len(described_list.series.get(uid, ()))

        if permit.caller is None:
            facts_of = described_list.facts_of
            return await for_each(uids, lambda uid: visibility(permit, facts_of(uid), now), rows)
        decided: list[Visible | Hidden] = []
        # The facts of all of them at once would be much work for the garbage collector.
        for few in batched(uids):
            facts = await for_each(few, described_list.facts_of, rows)
            judged = await asyncio.gather(*map(partial(self._judged, permit), few, facts))
            decided += await for_each(
                judged,
                lambda studies: visibility(permit, studies, now),
                lambda studies: sum(len(study.series) for study in studies),
            )
        return decided

    async def _judged(
        self, permit: PatientPermit, study: str, facts: tuple[DescribedStudy, ...]
    ) -> tuple[DescribedStudy, ...]:
        """Return the facts on a study with the external policy's verdicts, if there is a policy.

        What is hidden anyway is not asked about.
        """
        external = self._external
        if external is None or is_hidden_anyway(permit, facts, self._clock()):
            return facts
        contexts = sorted({path.context for path in permit.paths})
        return tuple(
            [
                replace(
                    described_study,
                    verdicts={
                        name: await external.verdict(permit, name, study, described_study)
                        for name in contexts
                    },
                )
                for described_study in facts
            ]
        )


@dataclass(frozen=True, slots=True)
class _DescribedList:
    """The studies of a listing, described. ``oldest``: when the oldest of it was asked for.

    ``facts``: StudyInstanceUID -> those of each study under it, packed.
    """

    listing: Listing
    oldest: datetime
    rows: Mapping[str, Row]
    series: Mapping[str, Sequence[Row]]
    facts: Mapping[str, tuple[bytes, ...]]
    _left: dict[tuple[object, ...], tuple[Row | None, Packed]] = field(default_factory=dict)

    def facts_of(self, uid: str) -> tuple[DescribedStudy, ...]:
        """Return the facts on each study under a UID; there may be none."""
        return tuple(map(unpack_facts, self.facts.get(uid, ())))

    def left_of(self, uid: str, visible: Visible) -> tuple[Row | None, PackedRows]:
        """Return the row and the series rows of a study without what is hidden.

        The row is the same object while the same is visible, so that what is made of it can be
        remembered. A study of which there is but a copy is listed by no row.
        """
        # Not the set itself, which the garbage collector would go through.
        key = (uid, visible.is_limited, visible.is_complete, *sorted(visible.named_series))
        known = self._left.get(key)
        if known is None:
            series = shown_series(self.series.get(uid, ()), visible)
            row = self.rows.get(uid)
            if row is not None and not visible.is_complete:
                row = without_hidden(row, series)
            if len(self._left) >= VIEWS_OF_A_STUDY * len(self.facts):
                self._left.clear()
            # Of two that are made at once, in the loop and in a thread, the first one counts.
            known = self._left.setdefault(key, (row, packed(series)))
        return known[0], PackedRows(known[1])
