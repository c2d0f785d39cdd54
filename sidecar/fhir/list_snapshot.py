"""Snapshot of a patient's list: what searches compare and return, worked out once for each list."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Packed, PackedRows, Row, packed, texts
from sidecar.dicom.uid import is_uid
from sidecar.fhir.catalog.catalog import Catalog, fingerprints
from sidecar.fhir.imaging_study import (
    Site,
    accession_number,
    own_modality_codes,
    study_id,
    study_started,
    study_uid,
)

VIEWS_OF_A_STUDY = 4
"""Ways in which the studies of a list are shown, on average, that are remembered."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN_START = -(2**62)
_MAXIMUM_PATIENTS = 4
"""FHIR ids of one list that are remembered; as a rule there is one."""
_MAXIMUM_SEARCHES = 8
"""Searches of one list whose studies are remembered, for their pages."""


class BundleEntry(NamedTuple):
    """Entry of a Bundle as JSON, its hash (16 bytes), and where its resource begins and ends."""

    body: bytes
    digest: bytes
    begin: int
    end: int

    @property
    def resource(self) -> bytes:
        """The entry's resource as JSON. It may be megabytes, which take time to parse."""
        return self.body[self.begin : self.end]


@dataclass(slots=True, eq=False)
class ListedStudy:
    """Study of a list, with what searches compare of it.

    - ``packed_series``: its series rows, ``None`` where the archive must be asked for them
    - ``began``: the first instant of its start and the one behind it; ``start``: the former in
      microseconds since 1970, before all others where it is unknown
    - ``modalities``: codes in its own row; ``names_modalities``: whether there is any text
    - ``entries``: FHIR version -> what the entry depends on beside the rows, and the entry
    """

    row: Row
    packed_series: Packed | None
    uid: str
    id: str
    began: tuple[datetime, datetime] | None  # Of a pair the garbage collector has nothing to do.
    start: int
    accession_number: str | None
    modalities: tuple[str, ...]
    names_modalities: bool
    entries: dict[str, tuple[tuple[str, datetime], BundleEntry]] | None = None

    @property
    def series(self) -> PackedRows | None:
        """Its series rows, ``None`` where the archive must be asked for them."""
        return None if self.packed_series is None else PackedRows(self.packed_series)


def listed_study(row: Row, series: Sequence[Row] | None, site: Site) -> ListedStudy:
    """Return the study of a row."""
    uid, began = study_uid(row), study_started(row, site)
    return ListedStudy(
        row,
        None if series is None else packed(series),
        uid,
        study_id(uid),
        (began.span.start, began.span.end) if began else None,
        microseconds(began.span.start) if began else _UNKNOWN_START,
        accession_number(row),
        tuple(own_modality_codes(row)),
        bool(texts(row, "ModalitiesInStudy")),
    )


def microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


class ListSnapshot:
    """All studies of a list that a search can find. Nothing in it outlives the list.

    ``studies``: those whose UID a URL can name. ``fingerprints``: StudyInstanceUID -> hash of a
    study's rows, of all studies. ``spare_bytes``: limit of all entries that are kept.
    """

    def __init__(
        self,
        studies: Sequence[ListedStudy],
        fingerprints: Mapping[str, bytes],
        site: Site,
        spare_bytes: int,
    ) -> None:
        self.studies = studies
        self.by_id = {study.id: study for study in studies}
        self._by_row = {id(study.row): study for study in studies}
        self._views: dict[int, ListedStudy] = {}
        self._fingerprints = fingerprints
        self._site = site
        self._spare_bytes = spare_bytes
        self._lock = threading.Lock()  # Entries of long studies are made in a thread.
        self._seen: dict[str, Mapping[str, datetime]] = {}
        self._found: dict[tuple[str, bytes], Sequence[ListedStudy]] = {}

    def study_of(self, row: Row, series: Mapping[str, Sequence[Row]]) -> ListedStudy:
        """Return the study of a row of the list, or of one from which something was taken away.

        ``series``: StudyInstanceUID -> what is left of the series of the latter. It is found again
        by the same object.
        """
        if (known := self._known(row)) is not None:
            return known
        if len(self._views) >= VIEWS_OF_A_STUDY * len(self.studies):
            with self._lock:
                for view in self._views.values():
                    self._spare_bytes += sum(
                        len(made.body) for _, made in (view.entries or {}).values()
                    )
                self._views.clear()
        study = listed_study(row, series.get(study_uid(row)), self._site)
        self._views[id(row)] = study
        return study

    def _known(self, row: Row) -> ListedStudy | None:
        # By identity: a row has no hash. Each of these studies has its row, which is alive.
        return self._by_row.get(id(row)) or self._views.get(id(row))

    async def seen(self, patient: str, catalog: Catalog) -> Mapping[str, datetime]:
        """Return when each study was first seen like this. Raises what ``Catalog.look`` raises.

        The catalog looks at each list once.
        """
        if patient not in self._seen:
            seen = await catalog.look(patient, self._fingerprints)
            if len(self._seen) >= _MAXIMUM_PATIENTS:
                self._seen.clear()
                self._found.clear()
            self._seen[patient] = seen
        return self._seen[patient]

    def found(self, search: tuple[str, bytes]) -> Sequence[ListedStudy] | None:
        """Return the studies of a search, in its order, ``None`` if they are not remembered."""
        return self._found.get(search)

    def remember(self, search: tuple[str, bytes], studies: Sequence[ListedStudy]) -> None:
        """Remember the studies of a search. ``search``: FHIR id and ``Search.selection``."""
        if len(self._found) >= _MAXIMUM_SEARCHES:
            del self._found[next(iter(self._found))]
        self._found[search] = studies

    def remembered_entry(
        self, study: ListedStudy, version: str, depends: tuple[str, datetime]
    ) -> BundleEntry | None:
        """Return the study's entry in this FHIR version, if it is remembered."""
        known = study.entries.get(version) if study.entries else None
        return known[1] if known is not None and known[0] == depends else None

    def entry(
        self,
        study: ListedStudy,
        version: str,
        depends: tuple[str, datetime],
        make: Callable[[], BundleEntry],
    ) -> BundleEntry:
        """Return the study's entry in this FHIR version, made once for what it ``depends`` on."""
        if (remembered := self.remembered_entry(study, version, depends)) is not None:
            return remembered
        entry = make()
        with self._lock:
            if self._known(study.row) is study:  # Else it would not be found again.
                entries = study.entries or {}
                known = entries.get(version)
                more = len(entry.body) - (len(known[1].body) if known is not None else 0)
                if more <= self._spare_bytes:
                    self._spare_bytes -= more
                    study.entries = {**entries, version: (depends, entry)}
        return entry


async def list_snapshot(
    rows: Sequence[Row],
    series: Mapping[str, Sequence[Row]] | None,
    whole_series: Callable[[str], Sequence[Row] | None],
    site: Site,
    spare_bytes: int,
) -> ListSnapshot:
    """Make the snapshot of a list, in slices.

    ``series``: the series rows of each study, as far as the list has them. ``whole_series(uid)``:
    those of a study if they are all of them.
    """
    studies = await in_slices(
        listed_study(row, whole_series(uid), site) if is_uid(uid := study_uid(row)) else None
        for row in rows
    )
    return ListSnapshot(studies, await fingerprints(rows, series), site, spare_bytes)
