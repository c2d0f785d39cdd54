"""Do ``access.rules`` and ``access.clients`` see what they look at? A rule on what is never told hides everything."""

from sidecar.check.finding import Finding, failed, ok, skipped, warning
from sidecar.common.dicom_json import Row, tag, text
from sidecar.common.errors import Problem
from sidecar.fhir.described import unknown_keywords
from sidecar.pacs.resources import Query
from sidecar.server import Sidecar
from sidecar.server_access import named_of_series, named_of_studies
from sidecar.settings import Settings

_SAMPLE = 50


async def rules(settings: Settings, sidecar: Sidecar) -> Finding:
    """Which attributes of rules and clients no study or series of a sample has a value of."""
    name = "access.rules"
    if settings.access.external.url is not None and not settings.access.rules:
        return ok(name, "none; access.external decides on what the archive tells")
    of_studies, of_series = named_of_studies(settings), named_of_series(settings)
    if not of_studies and not of_series:
        return ok(name, "none: nothing is left out")
    try:
        studies = await _sample(sidecar, Query("studies"), ["StudyInstanceUID", *of_studies])
        first = text(studies[0], "StudyInstanceUID") if studies else None
        if first is None:
            return skipped(name, "the archive has no study that we may see: nothing to look at")
        series = [
            row
            for study in studies[: 5 if of_series else 0]
            if (uid := text(study, "StudyInstanceUID"))
            for row in await _sample(sidecar, Query("series", study=uid), ["SeriesInstanceUID", *of_series])
        ]
    except Problem as problem:
        return failed(name, problem, "The archive does not answer for the attributes that the rules name; see its log.")
    silent = unknown_keywords(studies, of_studies) + (unknown_keywords(series, of_series) if series else [])
    if "ModalitiesInStudy" in silent:  # Then it is gathered from the series.
        silent.remove("ModalitiesInStudy")
    if silent:
        return warning(
            name,
            f"no study or series of a sample has a value of {', '.join(silent)}",
            "A rule that excludes or holds by it applies to all of them (unless it says unknown: ignored), and a "
            "client's studies by it are none. Does the archive tell it in QIDO-RS? Orthanc: ExtraMainDicomTags.",
        )
    count = len(settings.access.rules)
    return ok(name, f"{count} rule{'' if count == 1 else 's'}; the archive tells what they look at")


async def _sample(sidecar: Sidecar, query: Query, keywords: list[str]) -> list[Row]:
    fields = ("includefield", ",".join(map(tag, keywords)))
    return await sidecar.pacs.search(query, (fields,), limit=_SAMPLE)


async def clients(settings: Settings, sidecar: Sidecar) -> Finding:
    """Whether each backend client has patients."""
    name = "access.clients"
    if not settings.access.backend_services:
        return ok(name, "Backend Services are off")
    if not settings.access.clients:
        return warning(
            name, "Backend Services are on, but nobody has anything", "Add access.clients, or switch them off."
        )
    without = 0
    for client_id in settings.access.clients:
        try:
            found = await sidecar.clients.client(client_id)
        except Problem as problem:
            return failed(
                name,
                problem,
                "A Group cannot be read at the EHR: patients.client needs a scope such as system/Group.r.",
            )
        without += found is None or not found.patients
    if without:
        return warning(
            name, f"{without} of {len(settings.access.clients)} may see nobody",
            "An empty or unreadable patients_file, or a Group without active members.",
        )  # fmt: skip
    return ok(name, f"{len(settings.access.clients)}, each with patients")


async def external(settings: Settings, sidecar: Sidecar) -> Finding:
    """Whether the external policy answers, about nobody."""
    name = "access.external"
    if sidecar.external is None:
        return ok(name, "off")
    try:
        found = await sidecar.external.probe()
    except Problem as problem:
        return failed(
            name,
            problem,
            'It must answer POST {"input": …} with {"result": true}, false, or {"allow": …, "exclude_series": […]}; '
            "OPA answers {} for a rule that does not exist or has no default.",
        )
    if found.allow:
        return warning(
            name,
            "it allows a made-up patient's study to nobody in particular",
            "Is its default false, as it should be?",
        )
    return ok(name, "it answers, and refuses a made-up patient's study")
