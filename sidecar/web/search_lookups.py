"""Look up what a search needs of studies beyond their rows."""

from collections.abc import Sequence

from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.common.errors import BadRequest
from sidecar.dicom.uid import is_uid
from sidecar.fhir.imaging_study import UID_SYSTEM
from sidecar.fhir.list_snapshot import ListedStudy
from sidecar.fhir.search import Search
from sidecar.fhir.select import Details
from sidecar.fhir.token_search import TokenFilter

_OF_INSTANCES = {"instance": "SOPInstanceUID", "dicom-class": "SOPClassUID"}
_OF_SERIES = {"bodysite", "series", "performer", "performer.name"}
_UID_SYSTEMS = (None, UID_SYSTEM, "urn:ietf:rfc:3986")
"""Systems of a UID; that of an instance may also have none, for R4's element is an id."""

MAXIMUM_QUESTIONS = 1_000
"""Studies times UIDs that one search may have the archive asked for."""


class TooCostly(BadRequest):
    """The search would cost the archive too much: 400."""

    code = "too-costly"


async def search_details(
    search: Search,
    studies: Sequence[ListedStudy],
    view: VisibleStudies,
    endpoint: str | None,
) -> Details:
    """Return what ``search`` needs of those ``studies`` of the ``view`` that can still pass.

    ``endpoint``: the id of the patient's Endpoint. Raises ``TooCostly``.
    """
    names = search.names()
    unknown = [study for study in studies if study.series is None]
    wants_series = bool(names & _OF_SERIES) or (
        "modality" in names and not all(study.names_modalities for study in unknown)
    )
    uids = [study.uid for study in studies]
    asked = {token: _uids(token) for token in search.tokens if token.name in _OF_INSTANCES}
    if len(uids) * sum(map(len, asked.values())) > MAXIMUM_QUESTIONS:
        raise TooCostly(
            "The search asks for too many UIDs in too many studies; narrow it.", reason="too_costly"
        )
    series = await view.series_of(study.uid for study in unknown) if wants_series else {}
    holding = {}
    for token, wanted in asked.items():
        holders: set[str] = set()
        for uid in wanted:
            holders |= await view.holding(_OF_INSTANCES[token.name], uid, uids)
        holding[token] = frozenset(holders)
    return Details(series, holding, endpoint)


def _uids(wanted: TokenFilter) -> list[str]:
    """Return the UIDs that are meant, each once."""
    systems = (*_UID_SYSTEMS, "") if wanted.name == "instance" else _UID_SYSTEMS
    meant = (token.code for token in wanted.alternatives if token.system in systems)
    return list(dict.fromkeys(uid for uid in meant if is_uid(uid)))
