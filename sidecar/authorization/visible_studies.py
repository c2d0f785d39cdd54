"""Studies of a patient as a permit shows them: rows, series and instances, none that is hidden."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sidecar.access.decision import is_shown
from sidecar.access.permits import (
    ALL_SERIES,
    ALL_STUDIES,
    AllStudies,
    SearchPermit,
)
from sidecar.access.visibility import (
    HIDDEN,
    SHARED,
    WHOLE_STUDY,
    Hidden,
    Visible,
)
from sidecar.authorization.study_facts import (
    without_hidden,
)
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Row
from sidecar.fhir.imaging_study import study_uid
from sidecar.pacs.listing import Listing
from sidecar.pacs.studies import AsOf, Studies


@dataclass(frozen=True, slots=True)
class VisibleStudies:
    """A patient's studies as one permit shows them.

    ``rows`` (where studies are listed) and ``series`` are what is shown; ``listing`` is all that
    there is.
    ``visible``: StudyInstanceUID -> what is left of the study, ``ALL_STUDIES`` for a permit without
    limits. ``permit``: that by which details are asked for.
    """

    studies: Studies
    permit: SearchPermit
    listing: Listing
    oldest: AsOf
    rows: Sequence[Row]
    series: Mapping[str, Sequence[Row]] | None
    visible: Mapping[str, Visible] | AllStudies

    def of(self, study: str) -> Visible | Hidden:
        """Return what may be seen of a study of the list."""
        if study in self.listing.shared:
            return SHARED
        return WHOLE_STUDY if self.visible is ALL_STUDIES else self.visible.get(study, HIDDEN)

    def last_updated(self, seen: Mapping[str, datetime]) -> Mapping[str, datetime]:
        """Return when each study was last ``seen`` to change; the end of a hold is a change."""
        if self.visible is ALL_STUDIES:
            return seen
        changed = dict(seen)
        for uid, visible in self.visible.items():
            if visible.since is not None and uid in changed:
                changed[uid] = max(changed[uid], datetime.fromtimestamp(visible.since, UTC))
        return changed

    async def series_of(self, studies: Iterable[str]) -> Mapping[str, Sequence[Row]]:
        """Return the series rows that are shown, by StudyInstanceUID."""
        wanted = list(studies)
        if (series := self.series) is not None and self.visible is not ALL_STUDIES:
            return dict(await in_slices((study, list(series.get(study, ()))) for study in wanted))
        return await self.studies.series_of(self.permit, wanted, self.listing, self.oldest)

    async def instances(self, study: str, series: str) -> list[Row]:
        """Return the instance rows of a series, none of one that is not shown."""
        if not self.shows_row(study, series):
            return []
        return await self.studies.instances(self.permit, study, series, self.oldest)

    async def holding(self, keyword: str, uid: str, studies: Iterable[str]) -> set[str]:
        """Return those of ``studies`` that show an instance whose ``keyword`` is ``uid``."""
        limited = {} if self.visible is ALL_STUDIES else self.visible
        series = {
            study: visible.series
            for study, visible in limited.items()
            if visible.series is not ALL_SERIES
        }
        return await self.studies.holding(
            self.permit, keyword, uid, studies, self.oldest, only=series
        )

    def shows_row(self, study: str, series: str | None) -> bool:
        """Return whether a row of this study, or of this series of it, is shown."""
        return is_shown(self.of(study), series)

    def row(self, row: Row) -> Row:
        """Return a study's row without what is hidden of it."""
        seen = self.of(study_uid(row))
        if isinstance(seen, Hidden) or seen.is_complete:
            return row
        return without_hidden(row, (self.series or {}).get(study_uid(row), ()))
