"""The search for a patient's studies: its forms, its Bundle, its pages (SIA-20, 24)."""

from collections import Counter
from typing import Any

from sidecar.conformance.client import FHIR_JSON, NotTested, Violated
from sidecar.conformance.requirements import ACCEPT
from sidecar.conformance.visit import (
    Check,
    Visit,
    counted,
    ids,
    link,
    none_of,
    objects,
    patient_of,
    resources,
    strings,
)

_JSON = (FHIR_JSON, "application/json")


async def _finds(visit: Visit) -> str:
    """The patient's studies, all pages; later checks look at them."""
    bundle = await visit.search(("_include", "ImagingStudy:endpoint"))
    visit.bundle = bundle
    pages = [bundle]
    while (following := link(pages[-1], "next", visit.base)) is not None and len(
        pages
    ) < visit.client.limits.pages:
        pages.append((await visit.client.ask(following)).resource("Bundle"))
    visit.has_all = following is None
    found = [one for page in pages for one in resources(page, "ImagingStudy")]
    for page in pages:
        for entry in objects(page.get("entry")):
            _keep_endpoint(visit, entry)
    if visit.patient is None:
        # Of most of them: one that leaked must not pass for the token's.
        subjects = Counter(subject for one in found if (subject := patient_of(one)) is not None)
        visit.patient = next((subject for subject, _ in subjects.most_common(1)), None)
    visit.studies = [one for one in found if patient_of(one) in (visit.patient, None)]
    visit.foreign = len(found) - len(visit.studies)
    more = "" if visit.has_all else f" on {counted(len(pages), 'page')}; there are more"
    return f"{counted(len(found), 'study')}{more}"


def _keep_endpoint(visit: Visit, entry: dict[str, Any]) -> None:
    resource = entry.get("resource")
    if isinstance(resource, dict) and resource.get("resourceType") == "Endpoint":
        if "id" in resource:  # One of this Bundle alone need not have an id (SIA-33).
            visit.endpoints[f"Endpoint/{resource['id']}"] = resource
        visit.endpoints[str(entry.get("fullUrl"))] = resource


async def _bundle(visit: Visit) -> str:
    bundle = visit.answered()
    faults = [] if bundle.get("type") == "searchset" else ["type is not searchset"]
    total = bundle.get("total")
    if not isinstance(total, int) or isinstance(total, bool):
        faults.append("no total")
    elif visit.has_all and total != len(visit.studies) + visit.foreign:
        faults.append(
            f"total is {total}, but there are {counted(len(visit.studies) + visit.foreign, 'study')}"
        )
    own = link(bundle, "self", visit.base)
    if own is None:
        faults.append("no link self")
    if faults:
        raise Violated("; ".join(faults))
    return f"searchset, total {total}, link self"


async def _entries(visit: Visit) -> str:
    bundle = visit.answered()
    entries, faults = objects(bundle.get("entry")), []
    modes = {"ImagingStudy": "match", "Endpoint": "include", "OperationOutcome": "outcome"}
    for entry in entries:
        resource, search = entry.get("resource"), entry.get("search")
        kind = str(resource.get("resourceType")) if isinstance(resource, dict) else None
        mode = search.get("mode") if isinstance(search, dict) else None
        if kind not in modes:
            faults.append("an entry that is neither ImagingStudy nor Endpoint")
        elif mode != modes[kind]:
            faults.append(f"{kind} without search.mode {modes[kind]}")
        if not isinstance(entry.get("fullUrl"), str):
            faults.append("an entry without fullUrl")
    none_of(faults, len(entries))
    return counted(len(entries), "entry")


async def _media_type(visit: Visit) -> str:
    visit.answered()
    answer = await visit.client.ask(visit.url("ImagingStudy", _patient(visit)))
    if answer.media_type != FHIR_JSON:
        raise Violated(f"Accept: {FHIR_JSON} brings {answer}")
    refused = await visit.client.ask(
        visit.url("ImagingStudy", _patient(visit)), accept="application/x-nonsense"
    )
    if refused.status != 406:
        raise Violated(f"Accept: application/x-nonsense brings {refused}")
    return f"{FHIR_JSON}; 406 for nonsense"


async def _pages(visit: Visit) -> str:
    known = ids({"entry": [{"resource": one} for one in visit.known_studies()]})
    if len(known) < 2:
        raise NotTested("it takes two studies")
    bundle = await visit.search(("_count", "1"))
    seen, pages = ids(bundle), 1
    if len(seen) > 1:
        raise Violated(f"_count=1 brings a page of {counted(len(seen), 'study')}")
    while (
        following := link(bundle, "next", visit.base)
    ) is not None and pages < visit.client.limits.pages:
        bundle = (await visit.client.ask(following)).resource("Bundle")
        seen, pages = seen + ids(bundle), pages + 1
    if len(set(seen)) < len(seen):
        raise Violated("a study stands on two pages")
    if not set(seen) <= set(known) and visit.has_all:
        raise Violated("the pages have a study that the search without _count has not")
    if following is None and visit.has_all and set(seen) != set(known):
        raise Violated(
            f"_count=1: the pages end after {len(seen)} of {counted(len(known), 'study')}"
        )
    more = "" if following is None else "; followed no further"
    return f"{counted(pages, 'page')} by _count=1 and link next{more}"


async def _spellings(visit: Visit) -> str:
    patient, _ = visit.known_patient(), visit.known_studies()
    wanted = sorted(visit.first_page())
    spellings = [
        ("patient", patient),
        ("patient", f"Patient/{patient}"),
        ("subject", f"Patient/{patient}"),
    ]
    for name, value in spellings:
        found = await visit.search((name, value), patient=False)
        if sorted(ids(found)) != wanted:
            how = f"{name}={value.replace(patient, '<id>')}"
            raise Violated(
                f"{how} brings {counted(len(ids(found)), 'study')}, not the {len(wanted)} of patient=<id>"
            )
    return "patient=<id>, patient=Patient/<id> and subject=Patient/<id> are the same"


async def _posted(visit: Visit) -> str:
    patient, _ = visit.known_patient(), visit.known_studies()
    answer = await visit.client.ask(
        visit.url("ImagingStudy/_search"), method="POST", form=f"patient={patient}"
    )
    found = ids(answer.resource("Bundle"))
    if sorted(found) != sorted(visit.first_page()):
        raise Violated(
            f"POST _search brings {counted(len(found), 'study')}, GET {len(visit.first_page())}"
        )
    return f"{counted(len(found), 'study')}, as by GET"


async def _head(visit: Visit) -> str:
    visit.answered()
    answer = await visit.client.ask(visit.url("ImagingStudy", _patient(visit)), method="HEAD")
    if answer.status in (405, 501):
        raise NotTested(f"not offered: {answer.status}")
    if answer.status != 200:
        raise Violated(f"HEAD: {answer}, GET: 200")
    return "200"


async def _unchanged(visit: Visit) -> str:
    """If-None-Match, where an ETag says that it means something."""
    visit.answered()
    study = next(iter(visit.first_page()), None)
    urls = [
        visit.url("ImagingStudy", _patient(visit)),
        *([visit.url(f"ImagingStudy/{study}")] if study else []),
    ]
    announced = strings([visit.imaging_study().get("conditionalRead")])
    tagged = unchanged = 0
    for url in urls:
        tag = (await visit.client.ask(url)).headers.get("ETag")
        if tag is None:
            continue
        tagged += 1
        again = await visit.client.ask(url, headers={"If-None-Match": tag})
        if again.status == 200 and again.headers.get("ETag") not in (None, tag):
            continue  # Something in it is new each time, as capability URLs are.
        if again.status != 304:
            raise Violated(f"If-None-Match with the ETag that just came: {again}")
        unchanged += 1
    if not tagged:
        if announced and announced[0] in ("not-match", "full-support"):
            raise Violated(f"conditionalRead is {announced[0]}, but there is no ETag")
        raise NotTested("no answer has an ETag")
    if not unchanged:
        raise NotTested("the ETag is another one each time")
    return "304"


def _patient(visit: Visit) -> list[tuple[str, str]]:
    return [("patient", visit.patient)] if visit.patient is not None else []


FIND = (Check(20, "a search for the patient's studies", _finds),)
SEARCH = (
    Check(24, "the Bundle", _bundle),
    Check(24, "its entries", _entries),
    Check(24, "Accept and Content-Type", _media_type, ACCEPT),
    Check(24, "pages", _pages),
    Check(20, "spellings of the patient", _spellings),
    Check(20, "search by POST", _posted),
    Check(20, "HEAD of a search", _head),
    Check(25, "ETag and If-None-Match", _unchanged),
)
