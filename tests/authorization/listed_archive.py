"""An archive whose lists a permit limits, and the lookup of what is shown of it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sidecar.access.facts import (
    Effect,
    PatientIdentifier,
    Rule,
)
from sidecar.access.permits import Interaction, PatientPermit, SearchPermit
from sidecar.authorization.visible_studies_lookup import VisibleStudiesLookup
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import Row
from sidecar.pacs.listing import Listing
from sidecar.pacs.studies import AsOf, Studies
from tests.common.peer import Clock
from tests.fakes.site import SITE
from tests.fhir.rows import row
from tests.permits import make_path, make_rule, patient_permit, search_permit

DAY_ENDS = datetime(2024, 3, 1, tzinfo=UTC).timestamp()
KNOWN_AS = frozenset({PatientIdentifier("p1")})
SEARCH = search_permit("p1", KNOWN_AS)
NO_SR = make_rule("no SR", Effect.EXCLUDE, series={"Modality": ("SR",)})
ASKED = datetime(2024, 1, 1, tzinfo=UTC)


class Archive(Studies):
    """Knows these rows; ``fresh`` ones only when it is asked for those."""

    def __init__(
        self, rows: list[Row], series: dict[str, list[Row]], copies: Iterable[Row] = ()
    ) -> None:
        self.listing = self.fresh = Listing(rows, ASKED, None, tuple(copies))
        self.series_rows = series
        self.series_asked = ASKED
        self.questions: list[bool] = []
        self.details: list[tuple[object, ...]] = []

        async def of_patient(permit: SearchPermit, *, fresh: bool = False) -> Listing:
            self.questions.append(fresh)
            return self.fresh if fresh else self.listing

        self.of_patient = of_patient

    async def series_of(
        self,
        permit: SearchPermit,
        studies: Iterable[str],
        listing: Listing,
        oldest: AsOf,
    ) -> dict[str, list[Row]]:
        """As the archive says."""
        wanted = list(studies)
        self.details.append(("series", *wanted))
        oldest.note(self.series_asked)
        return {study: self.series_rows.get(study, []) for study in wanted}

    async def instances(
        self, permit: SearchPermit, study: str, series: str, oldest: AsOf
    ) -> list[Row]:
        """Return one instance of the series."""
        self.details.append(("instances", study, series))
        return [row(SOPInstanceUID=f"{series}.1")]

    async def holding(
        self,
        permit: SearchPermit,
        keyword: str,
        uid: str,
        studies: Iterable[str],
        oldest: AsOf,
        only: Mapping[str, frozenset[str]] | None = None,
    ) -> set[str]:
        """Return all that were asked about."""
        self.details.append(("holding", keyword, uid, dict(only or {})))
        return set(studies)

    def forget_listed(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """As ``Studies``."""
        self.details.append(("forget", study, known_as))


def study(uid: str = "1.2", **attributes: Any) -> Row:
    """A study's row."""
    return row(**{"StudyInstanceUID": uid, "StudyDate": "20240229"} | attributes)


def series(uid: str, modality: str | None) -> Row:
    """A series' row."""
    return row(SeriesInstanceUID=uid, Modality=modality, NumberOfSeriesRelatedInstances=3)


def permit(*rules: Rule, constraint: str | None = None) -> PatientPermit:
    """One that is limited so."""
    return patient_permit("p1", Interaction.RETRIEVE, (make_path(constraint, rules=rules),))


def views(
    archive: Archive, clock: Clock | None = None, rules: tuple[Rule, ...] = (), **more: Any
) -> VisibleStudiesLookup:
    """On this archive."""
    return VisibleStudiesLookup(
        archive,
        SITE,
        rules=rules,
        clock=clock or Clock(DAY_ENDS),
        **({"invalidation": Invalidation()} | more),
    )


ROWS = [
    study("1.2", ModalitiesInStudy=["CT", "SR"], NumberOfStudyRelatedSeries=2),
    study("1.3", ModalitiesInStudy=["CT"]),
    study("1.4", ModalitiesInStudy=["SR"]),
]
SERIES = {
    "1.2": [series("1.2.1", "CT"), series("1.2.2", "SR")],
    "1.3": [series("1.3.1", "CT")],
    "1.4": [series("1.4.1", "SR")],
}
