"""Check of the DICOMweb resources that the archive offers below a study (PS3.18 10.4.1, 10.6.1)."""

from sidecar.bootstrap.build import Sidecar
from sidecar.check.outcome import CheckOutcome, failure_of, ok, warning
from sidecar.check.sample import NO_STUDY, sample
from sidecar.common.errors import Problem
from sidecar.dicom.json_model import text
from sidecar.dicomweb.media_types import DICOM_JSON, PLAIN_JSON
from sidecar.dicomweb.paths import UID_OF_LEVEL, Query
from sidecar.dicomweb.upstream_errors import QueryRefused, ResourceNotOffered
from sidecar.settings.document import Settings

METADATA_BYTES = 16 * 2**20
"""Limit in bytes of the metadata of the instance that is looked at."""
_LACKING = {
    "series": "FHIR searches need fhir.detail: study, and ModalitiesInStudy in the rows of "
    "studies; nothing is retrieved series by series.",
    "instances": "Frames, drawn images and single instances are refused (501): nobody could say "
    "what they belong to.",
    "metadata": "Viewers that begin with them, as OHIF does, cannot show images.",
}


async def resources(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that a study's series, instances and metadata can be requested."""
    try:
        study = await _first(sidecar, Query("studies"))
        if study is None:
            return NO_STUDY
        missing = await _missing(sidecar, study)
    except Problem as problem:
        return failure_of(problem, "See what the other lines say of the archive.")
    if missing:
        return warning(
            "the archive does not offer " + ", ".join(missing),
            " ".join(_LACKING[name] for name in missing),
        )
    return ok("series, instances and metadata can be asked for")


async def _missing(sidecar: Sidecar, study: str) -> list[str]:
    """Return the resources that the archive lacks, by their names in paths."""
    missing, uids = [], [study]
    for level in ("series", "instances"):
        try:
            uid = await _first(sidecar, Query(level, *uids))
        except (ResourceNotOffered, QueryRefused):
            missing.append(level)
            return missing  # Without its UID nothing below can be requested.
        if uid is None:
            return missing
        uids.append(uid)
    path = "studies/{}/series/{}/instances/{}/metadata".format(*uids)
    for accept in (DICOM_JSON, PLAIN_JSON):
        if await sidecar.pacs.peek(path, accept=accept, limit_bytes=METADATA_BYTES) is not None:
            return missing
    return [*missing, "metadata"]


async def _first(sidecar: Sidecar, query: Query) -> str | None:
    """Return the UID of the first row that has a UID."""
    rows = await sample(sidecar, query, *UID_OF_LEVEL.values(), limit=1)
    return next((uid for row in rows if (uid := text(row, UID_OF_LEVEL[query.level]))), None)
