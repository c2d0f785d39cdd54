"""Search parameters: each match really is one, and what is known to match is found (SIA-20, 21)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sidecar.conformance.client import NotTested, Violated
from sidecar.conformance.visit import Check, Visit, counted, ids, objects, resources, uid_of

Study = dict[str, Any]


async def _by_identifier(visit: Visit) -> str:
    study, uid = _identified(visit)
    for value in (f"urn:oid:{uid}", f"urn:dicom:uid|urn:oid:{uid}"):
        found = await visit.search(("identifier", value))
        how = value.replace(uid, "<UID>")
        if ids(found) != [str(study.get("id"))]:
            raise Violated(
                f"identifier={how} of one study brings {counted(len(ids(found)), 'study')}, or another one"
            )
    return "identifier=urn:oid:<UID> and urn:dicom:uid|urn:oid:<UID> bring that study"


async def _absent_identifier(visit: Visit) -> str:
    visit.answered()
    bundle = await visit.search(("identifier", f"urn:oid:{visit.absent_uid}"))
    if ids(bundle) or bundle.get("total") not in (0, None):
        raise Violated(
            f"a made-up UID brings {counted(len(ids(bundle)), 'study')}, or a total that is not 0"
        )
    return "an empty Bundle for a made-up UID"


async def _included(visit: Visit) -> str:
    """With _include each Endpoint is in the Bundle, unless it is contained."""
    visit.known_studies()
    studies = resources(visit.bundle, "ImagingStudy")
    missing = 0
    for study in studies:
        for one in objects(study.get("endpoint")):
            reference = str(one.get("reference"))
            missing += (
                not reference.startswith("#") and endpoint_of(visit, study, reference) is None
            )
    if missing:
        raise Violated(
            f"{missing} of the Endpoints that {counted(len(studies), 'study')} name are not in the Bundle"
        )
    return "each study's Endpoint is in the Bundle, or contained"


def endpoint_of(visit: Visit, study: Study, reference: str) -> dict[str, Any] | None:
    """The Endpoint that a study's reference means: contained, or from a Bundle."""
    if reference.startswith("#"):
        contained = objects(study.get("contained"))
        return next((one for one in contained if f"#{one.get('id')}" == reference), None)
    short = "/".join(reference.split("/")[-2:])
    return visit.endpoints.get(reference) or visit.endpoints.get(short)


async def _by_last_updated(visit: Visit) -> str:
    studies = visit.known_studies()
    moments = [moment for study in studies if (moment := _moment(_last_updated(study))) is not None]
    await _empty(visit, "_lastUpdated", "lt1900-01-01T00:00:00Z")
    await _empty(visit, "_lastUpdated", "gt2999-01-01T00:00:00Z")
    if not moments:
        raise NotTested("no study has meta.lastUpdated; what none can be was not found")
    since = (
        (max(moments) - timedelta(seconds=1))
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    found = await visit.search(("_lastUpdated", f"gt{since}"))
    for study in resources(found, "ImagingStudy"):
        moment = _moment(_last_updated(study))
        if moment is None or moment <= max(moments) - timedelta(seconds=1):
            raise Violated("_lastUpdated=gt… brings a study that is older")
    if not ids(found):
        raise Violated("_lastUpdated=gt… leaves out the study that was updated last")
    return f"{counted(len(ids(found)), 'study')} since just before the last update; none before 1900, none after 2999"


def _last_updated(study: Study) -> Any:
    meta = study.get("meta")
    return meta.get("lastUpdated") if isinstance(meta, dict) else None


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else None


async def _by_started(visit: Visit) -> str:
    _announced(visit, "started")
    await _empty(visit, "started", "gt2999-01-01")
    day = next(
        (
            str(one["started"])[:10]
            for one in visit.known_studies()
            if isinstance(one.get("started"), str)
        ),
        None,
    )
    if day is None or len(day) < 10:
        raise NotTested("no study has started with a day; what none can be was not found")
    return await _matching(
        visit, "started", day, lambda study: str(study.get("started")).startswith(day)
    )


async def _by_modality(visit: Visit) -> str:
    _announced(visit, "modality")
    code = next((code for one in visit.known_studies() for code in _modalities(one)), None)
    if code is None:
        raise NotTested("no study has a modality")
    await _empty(visit, "modality", "XNONSENSE")
    return await _matching(visit, "modality", code, lambda study: code in _modalities(study))


def _modalities(study: Study) -> list[str]:
    return [
        code for one in objects(study.get("modality")) if isinstance(code := one.get("code"), str)
    ]


async def _by_status(visit: Visit) -> str:
    _announced(visit, "status")
    status = next(
        (one["status"] for one in visit.known_studies() if isinstance(one.get("status"), str)), None
    )
    if status is None:
        raise NotTested("no study has a status")
    await _empty(
        visit, "status", "entered-in-error" if status != "entered-in-error" else "available"
    )
    return await _matching(visit, "status", status, lambda study: study.get("status") == status)


async def _by_id(visit: Visit) -> str:
    _announced(visit, "_id")
    wanted = str(visit.known_studies()[0].get("id"))
    await _empty(visit, "_id", visit.absent_uid)
    return await _matching(
        visit, "_id", wanted, lambda study: study.get("id") == wanted, shown="<id>"
    )


def _announced(visit: Visit, name: str) -> None:
    visit.known_studies()
    if not visit.announces(name):
        raise NotTested(f"the CapabilityStatement does not have searchParam {name}")


def _identified(visit: Visit) -> tuple[Study, str]:
    for study in visit.known_studies():
        uid = uid_of(study)
        if uid is not None:
            return study, uid
    raise NotTested("no study has a StudyInstanceUID")


async def _empty(visit: Visit, name: str, value: str) -> None:
    found = ids(await visit.search((name, value)))
    if found:
        what = value if value != visit.absent_uid else "<made-up>"
        raise Violated(f"{name}={what} brings {counted(len(found), 'study')}")


async def _matching(
    visit: Visit,
    name: str,
    value: str,
    matches: Callable[[Study], bool],
    *,
    shown: str | None = None,
) -> str:
    """Each that comes matches.

    None of the known that match is missing, where all come on one page.
    """
    bundle = await visit.search((name, value))
    found = resources(bundle, "ImagingStudy")
    wrong = sum(not matches(one) for one in found)
    if wrong:
        raise Violated(
            f"{name}={shown or '…'}: {wrong} of {counted(len(found), 'study')} do not match"
        )
    first_page = set(visit.first_page())
    missing = {str(one.get("id")) for one in visit.studies if matches(one)} & first_page - set(
        ids(bundle)
    )
    if missing and bundle.get("total") in (len(found), None):
        raise Violated(
            f"{name}={shown or '…'}: {counted(len(missing), 'study')} that match are missing"
        )
    if not found:
        raise Violated(f"{name}={shown or '…'}: no study, though one matches")
    return f"{counted(len(found), 'study')}, each matches; none for a value that none has"


FILTERS = (
    Check(20, "_include=ImagingStudy:endpoint", _included),
    Check(20, "search by identifier", _by_identifier),
    Check(20, "search by an identifier that nobody has", _absent_identifier),
    Check(20, "search by _lastUpdated", _by_last_updated),
    Check(21, "search by started", _by_started),
    Check(20, "search by modality", _by_modality),
    Check(20, "search by status", _by_status),
    Check(20, "search by _id", _by_id),
)
