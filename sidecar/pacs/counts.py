"""Count the instances that the archive has of a study or series (PS3.18 10.6.3, PS3.4 C.3.4).

An archive that is corrected during a retrieval leaves out what is gone and ends its answer as
usual. So the number of instances is compared with this one before that end is passed on (SIA-43).
"""

import logging
from collections.abc import Sequence

from sidecar.access.facts import KnownAs, Part
from sidecar.access.permits import Inquiry
from sidecar.common.errors import BadGateway
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Row, number, text
from sidecar.dicom.owner import is_row_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.dicomweb.upstream_errors import ResourceNotOffered
from sidecar.pacs.client import PacsClient

log = logging.getLogger(__name__)

_STUDY_NUMBER, _SERIES_NUMBER = "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"
_WHO = ("PatientID", "IssuerOfPatientID")
_STUDY_FIELDS = includefield(*_WHO, _STUDY_NUMBER)
_SERIES_FIELDS = includefield(*_WHO, "StudyInstanceUID", _SERIES_NUMBER)
_PLACE_FIELDS = includefield(*_WHO, "StudyInstanceUID", "SeriesInstanceUID")


async def count_instances(client: PacsClient, part: Part, known_as: KnownAs) -> int | None:
    """Return how many instances the archive has in the study or series ``part``.

    ``None``: the part is not there, or is not the patient's alone (``known_as``). Nothing is
    cached. Where the archive does not count, the instances that it lists are counted. Raises
    ``BadGateway`` (``pacs_uncounted``) when it does neither, and what ``PacsClient.search`` raises.
    """
    rows = await _rows(client, part, known_as)
    # Below a study some archives name no patient.
    named = await in_slices(
        is_row_of(row, known_as, unnamed=part.series is not None) for row in rows
    )
    if not named or not all(named):
        return None
    keyword = _STUDY_NUMBER if part.series is None else _SERIES_NUMBER
    # A study without instances is none: 0 says nothing.
    known = await in_slices(number(row, keyword) or None for row in rows)
    return sum(known) if len(known) == len(rows) else await _list_instances(client, part, known_as)


async def _rows(client: PacsClient, part: Part, known_as: KnownAs) -> Sequence[Row]:
    """Return the rows of the study or series, under whichever patients."""
    if part.series is None:
        query, limit = Query("studies"), None
        parameters = (("StudyInstanceUID", part.study), _STUDY_FIELDS)
    else:
        query, limit = Query("series", study=part.study), 100
        parameters = (("SeriesInstanceUID", part.series), _SERIES_FIELDS)
    rows = await client.search(query, parameters, limit=limit, permit=Inquiry(known_as), fresh=True)
    return await in_slices(row if _is_in(row, part) else None for row in rows)


async def _list_instances(client: PacsClient, part: Part, known_as: KnownAs) -> int:
    """Return how many instances the archive lists. Raises ``BadGateway`` (``pacs_uncounted``)."""
    try:
        try:
            listed = await _listed(client, part, known_as)
        except ResourceNotOffered:
            if part.series is not None:
                raise
            listed = await _listed_by_series(client, part, known_as)
    except BadGateway as failure:
        raise _uncounted(failure.reason) from None
    if not listed:
        raise _uncounted("no instances are listed")
    return len(listed)


async def _listed(client: PacsClient, part: Part, known_as: KnownAs) -> set[str]:
    """Return the SOPInstanceUIDs that are listed in the study or series."""
    query = Query("instances", study=part.study, series=part.series)
    rows = await client.search(query, (_PLACE_FIELDS,), permit=Inquiry(known_as), fresh=True)
    return set(
        await in_slices(
            (text(row, "SOPInstanceUID") or None) if _is_in(row, part) else None for row in rows
        )
    )


async def _listed_by_series(client: PacsClient, part: Part, known_as: KnownAs) -> set[str]:
    """Return those of a whole study, series by series (tiny_pacs lists no others).

    The set is empty when one of the series has none: what is missing is not known.
    """
    rows = await client.search(
        Query("series", study=part.study), (_PLACE_FIELDS,), permit=Inquiry(known_as), fresh=True
    )
    uids: set[str] = set()
    own = await in_slices(
        text(row, "SeriesInstanceUID") or ""
        if text(row, "StudyInstanceUID") == part.study
        else None
        for row in rows
    )
    for series in set(own):
        listed = await _listed(client, Part(part.study, series), known_as) if series else set()
        if not listed:
            return set()
        uids |= listed
    return uids


def _is_in(row: Row, part: Part) -> bool:
    """Return whether the row names this study, and this series if there is one."""
    return text(row, "StudyInstanceUID") == part.study and part.series in (
        None,
        text(row, "SeriesInstanceUID"),
    )


def _uncounted(detail: str) -> BadGateway:
    log.error(
        "the PACS does not say how many instances a study or series has", extra={"detail": detail}
    )
    return BadGateway(
        "The image archive does not say how many instances this has, "
        "so nobody could tell a part of it from the whole.",
        reason="pacs_uncounted",
    ).because(detail)
