"""Checks of search parameters: results match, and known matches are among them (SIA-20, 21)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sidecar.conformance.context import Check, RunContext
from sidecar.conformance.levels import BASE, SHALL, Guide, NotTested, RequirementLevel, Violated
from sidecar.conformance.reading import key_of, keys, objects, plural, resources, strings, uid_of

Study = dict[str, Any]
_SAME_PAGE = {Guide.SEPTEMBER: SHALL, Guide.AUGUST: BASE}


async def _by_identifier(run: RunContext) -> str:
    study, uid = _identified(run)
    for value in (f"urn:oid:{uid}", f"urn:dicom:uid|urn:oid:{uid}"):
        found = keys(await run.search(("identifier", value)))
        if found != [key_of(study)]:
            shown, studies = value.replace(uid, "<UID>"), plural(len(found), "study")
            text = f"identifier={shown} of one study brings {studies}, or another one"
            raise Violated(text, level=BASE if "|" in value else SHALL)
    return "identifier=urn:oid:<UID> and urn:dicom:uid|urn:oid:<UID> bring that study"


async def _absent_identifier(run: RunContext) -> str:
    run.first_bundle()
    bundle = await run.search(("identifier", f"urn:oid:{run.absent_uid}"))
    if keys(bundle):
        raise Violated(f"a made-up UID brings {plural(len(keys(bundle)), 'study')}")
    if bundle.get("total") not in (0, None):
        raise Violated("a made-up UID brings a total that is not 0", level=BASE)
    return "an empty Bundle for a made-up UID"


async def _included(run: RunContext) -> str:
    """Check that with _include each Endpoint is in the Bundle, unless it is contained."""
    run.known_studies()
    studies = resources(run.bundle, "ImagingStudy")
    missing = sum(
        not reference.startswith("#") and endpoint_of(run, study, reference) is None
        for study in studies
        for reference in references(study)
    )
    if missing:
        named_by = plural(len(studies), "study")
        raise Violated(f"{missing} of the Endpoints that {named_by} name are not in the Bundle")
    return "each Endpoint that a study names is in the Bundle, or contained"


async def _on_the_page(run: RunContext) -> str:
    """Check that an Endpoint of one answer is on the page of its study (SIA-33)."""
    run.known_studies()
    for page in (*run.pages_seen, await run.search()):
        here = {str(entry.get("fullUrl")) for entry in objects(page.get("entry"))}
        for study in resources(page, "ImagingStudy"):
            local = {name for name in references(study) if name.startswith("urn:uuid:")}
            if not local <= here:
                raise Violated("a urn:uuid: Endpoint is not on the page of a study that names it")
    if not any(name.startswith("urn:uuid:") for study in run.studies for name in references(study)):
        raise NotTested("no study names an Endpoint of one answer (urn:uuid:)")
    return "each urn:uuid: Endpoint is on the page of its study, with and without _include"


def references(study: Study) -> list[str]:
    """Return the references to Endpoints."""
    return strings([one.get("reference") for one in objects(study.get("endpoint"))])


def endpoint_of(run: RunContext, study: Study, reference: str) -> dict[str, Any] | None:
    """Return the Endpoint of a study's reference: a contained one, or one from a Bundle."""
    if reference.startswith("#"):
        contained = objects(study.get("contained"))
        return next((item for item in contained if f"#{item.get('id')}" == reference), None)
    short = "/".join(reference.split("/")[-2:])
    return run.endpoints.get(reference) or run.endpoints.get(short)


async def _by_last_updated(run: RunContext) -> str:
    studies = run.known_studies()
    moments = [moment for study in studies if (moment := _moment(_last_updated(study))) is not None]
    await _empty(run, "_lastUpdated", "gt2999-01-01T00:00:00Z")
    await _empty(run, "_lastUpdated", "lt1900-01-01T00:00:00Z", level=BASE)
    if not moments:
        raise NotTested("no study has meta.lastUpdated; what none can be was not found")
    since = max(moments) - timedelta(seconds=1)
    written = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    updated = resources(await run.search(("_lastUpdated", f"gt{written}")), "ImagingStudy")
    for study in updated:
        moment = _moment(_last_updated(study))
        if moment is None or moment <= since:
            raise Violated("_lastUpdated=gt… brings a study that is older")
    if not updated:
        raise Violated("_lastUpdated=gt… leaves out the study that was updated last")
    number = plural(len(updated), "study")
    return f"{number} since just before the last update; none before 1900, none after 2999"


def _last_updated(study: Study) -> Any:
    meta = study.get("meta")
    return meta.get("lastUpdated") if isinstance(meta, dict) else None


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else None


async def _by_started(run: RunContext) -> str:
    _announced(run, "started")
    await _empty(run, "started", "gt2999-01-01")
    started = strings([study.get("started") for study in run.known_studies()])
    day = started[0][:10] if started else ""
    if len(day) < 10:
        raise NotTested("no study has started with a day; what none can be was not found")
    return await _matching(
        run, "started", day, lambda study: str(study.get("started")).startswith(day)
    )


async def _by_modality(run: RunContext) -> str:
    _announced(run, "modality")
    codes = [code for study in run.known_studies() for code in _modalities(study)]
    if not codes:
        raise NotTested("no study has a modality")
    code = codes[0]
    await _empty(run, "modality", "XNONSENSE")
    return await _matching(run, "modality", code, lambda study: code in _modalities(study))


def _modalities(study: Study) -> list[str]:
    return strings([coding.get("code") for coding in objects(study.get("modality"))])


async def _by_status(run: RunContext) -> str:
    _announced(run, "status")
    statuses = strings([study.get("status") for study in run.known_studies()])
    if not statuses:
        raise NotTested("no study has a status")
    status = statuses[0]
    other = "entered-in-error" if status != "entered-in-error" else "available"
    await _empty(run, "status", other)
    return await _matching(run, "status", status, lambda study: study.get("status") == status)


async def _by_id(run: RunContext) -> str:
    _announced(run, "_id")
    study_id = str(run.known_studies()[0].get("id"))
    await _empty(run, "_id", run.absent_uid)
    return await _matching(
        run, "_id", study_id, lambda study: study.get("id") == study_id, shown="<id>"
    )


def _announced(run: RunContext, name: str) -> None:
    run.known_studies()
    if not run.announces(name):
        raise NotTested(f"the CapabilityStatement does not have searchParam {name}")


def _identified(run: RunContext) -> tuple[Study, str]:
    for study in run.known_studies():
        uid = uid_of(study)
        if uid is not None:
            return study, uid
    raise NotTested("no study has a StudyInstanceUID")


async def _empty(
    run: RunContext, name: str, value: str, *, level: RequirementLevel | None = None
) -> None:
    found = keys(await run.search((name, value)))
    if found:
        shown = value if value != run.absent_uid else "<made-up>"
        raise Violated(f"{name}={shown} brings {plural(len(found), 'study')}", level=level)


async def _matching(
    run: RunContext,
    name: str,
    value: str,
    matches: Callable[[Study], bool],
    *,
    shown: str = "…",
) -> str:
    """Check that each study of a search matches, and that no known match is missing.

    A missing match is noticed where all matches are on the same page. ``shown`` stands for the
    value in texts. Raises ``Violated``.
    """
    bundle = await run.search((name, value))
    studies = resources(bundle, "ImagingStudy")
    number = plural(len(studies), "study")
    wrong = sum(not matches(study) for study in studies)
    if wrong:
        raise Violated(f"{name}={shown}: {wrong} of {number} do not match")
    known = {key_of(study) for study in run.studies if matches(study)}
    missing = known & set(run.first_page_keys()) - set(keys(bundle))
    if missing and bundle.get("total") in (len(studies), None):
        raise Violated(f"{name}={shown}: {plural(len(missing), 'study')} that match are missing")
    if not studies:
        raise Violated(f"{name}={shown}: no study, though one matches")
    return f"{number}, each matches; none for a value that none has"


FILTERS = (
    Check(20, SHALL, "_include=ImagingStudy:endpoint", _included),
    Check(33, _SAME_PAGE, "Endpoints of one answer are on its pages", _on_the_page),
    Check(20, SHALL, "search by identifier", _by_identifier),
    Check(20, SHALL, "search by an identifier that nobody has", _absent_identifier),
    Check(20, SHALL, "search by _lastUpdated", _by_last_updated),
    Check(21, BASE, "search by started", _by_started),
    Check(20, BASE, "search by modality", _by_modality),
    Check(20, BASE, "search by status", _by_status),
    Check(20, BASE, "search by _id", _by_id),
)
