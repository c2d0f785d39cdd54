"""What a search has to know of studies beyond their rows: asked of the archive only when it is asked for."""

from collections.abc import Sequence

from sidecar.access.identity import PatientIdentifier
from sidecar.common.dicom_json import Row, texts
from sidecar.common.uid import is_uid
from sidecar.fhir.imaging_study import UID_SYSTEM, study_uid
from sidecar.fhir.search import Search
from sidecar.fhir.select import Details
from sidecar.fhir.token_search import TokenFilter
from sidecar.pacs.studies import Studies

_OF_INSTANCES = {"instance": "SOPInstanceUID", "dicom-class": "SOPClassUID"}
_UID_SYSTEMS = (None, UID_SYSTEM, "urn:ietf:rfc:3986")


async def search_details(
    search: Search, rows: Sequence[Row], studies: Studies, known_as: frozenset[PatientIdentifier], endpoint: str | None
) -> Details:
    """Return what ``search`` needs of the patient's study ``rows``. ``endpoint``: the id of the patient's Endpoint."""
    names = search.names()
    wants_series = bool(names & {"bodysite", "series"}) or (
        "modality" in names and not all(texts(row, "ModalitiesInStudy") for row in rows)
    )
    uids = [uid for row in rows if is_uid(uid := study_uid(row))]
    series = await studies.series_of(uids, known_as) if wants_series else {}
    holding = {one: await _holding(one, uids, studies, known_as) for one in search.tokens if one.name in _OF_INSTANCES}
    return Details(series, holding, endpoint)


async def _holding(
    wanted: TokenFilter, uids: list[str], studies: Studies, known_as: frozenset[PatientIdentifier]
) -> frozenset[str]:
    found: set[str] = set()
    for one in wanted.alternatives:
        if one.system in _UID_SYSTEMS and is_uid(one.code):
            found |= await studies.holding(_OF_INSTANCES[wanted.name], one.code, uids, known_as)
    return frozenset(found)
