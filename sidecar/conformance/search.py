"""Checks of the search for a patient's studies: its forms, its Bundle, its pages (SIA-20, 24)."""

from collections import Counter
from typing import Any

from sidecar.conformance.client import FHIR_JSON, NotTested, Violated
from sidecar.conformance.context import (
    Check,
    RunContext,
    ids,
    link,
    objects,
    patient_of,
    plural,
    raise_for_faults,
    resources,
    strings,
)
from sidecar.conformance.requirements import ACCEPT

_JSON = (FHIR_JSON, "application/json")


async def _finds(run: RunContext) -> str:
    """Collect the patient's studies of all pages, for this check and later checks."""
    answer = await run.client.request(run.search_url(("_include", "ImagingStudy:endpoint")))
    if answer.status == 401:
        raise Violated(
            str(answer), "The token is not active here (any more), or not for this server."
        )
    run.bundle = answer.resource("Bundle")
    pages, run.has_all_pages = await run.pages(run.bundle)
    studies = [study for page in pages for study in resources(page, "ImagingStudy")]
    for page in pages:
        for entry in objects(page.get("entry")):
            _store_endpoint(run, entry)
    if run.patient is None:
        # The patient of most studies is the token's. A leaked study must not decide.
        subjects = Counter(subject for study in studies if (subject := patient_of(study)))
        run.patient = next((subject for subject, _ in subjects.most_common(1)), None)
    run.studies = [study for study in studies if patient_of(study) in (run.patient, None)]
    run.foreign = len(studies) - len(run.studies)
    more = "" if run.has_all_pages else f" on {plural(len(pages), 'page')}; there are more"
    return f"{plural(len(studies), 'study')}{more}"


def _store_endpoint(run: RunContext, entry: dict[str, Any]) -> None:
    resource = entry.get("resource")
    if isinstance(resource, dict) and resource.get("resourceType") == "Endpoint":
        url = str(entry.get("fullUrl"))
        # What is for this Bundle alone is no resource that can be read (SIA-33).
        if "id" in resource and not url.startswith("urn:uuid:"):
            run.endpoints[f"Endpoint/{resource['id']}"] = resource
        run.endpoints[url] = resource


async def _bundle(run: RunContext) -> str:
    bundle = run.first_bundle()
    faults = [] if bundle.get("type") == "searchset" else ["type is not searchset"]
    total = bundle.get("total")
    if not isinstance(total, int) or isinstance(total, bool):
        faults.append("no total")
    elif run.has_all_pages and total != (number := len(run.studies) + run.foreign):
        faults.append(f"total is {total}, but there are {plural(number, 'study')}")
    if link(bundle, "self", run.base) is None:
        faults.append("no link self")
    if faults:
        raise Violated("; ".join(faults))
    return f"searchset, total {total}, link self"


async def _entries(run: RunContext) -> str:
    bundle = run.first_bundle()
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
    raise_for_faults(faults, len(entries))
    return plural(len(entries), "entry")


async def _media_type(run: RunContext) -> str:
    run.first_bundle()
    answer = await run.client.request(run.search_url())
    if answer.media_type != FHIR_JSON:
        raise Violated(f"Accept: {FHIR_JSON} brings {answer}")
    refusal = await run.client.request(run.search_url(), accept="application/x-nonsense")
    if refusal.status != 406:
        raise Violated(f"Accept: application/x-nonsense brings {refusal}")
    return f"{FHIR_JSON}; 406 for nonsense"


async def _pages(run: RunContext) -> str:
    known = [str(study.get("id")) for study in run.known_studies()]
    if len(known) < 2:
        raise NotTested("the patient has fewer than two studies")
    bundle = await run.search(("_count", "1"))
    if (size := len(ids(bundle))) > 1:
        raise Violated(f"_count=1 brings a page of {plural(size, 'study')}")
    pages, is_whole = await run.pages(bundle)
    seen = [study_id for page in pages for study_id in ids(page)]
    if len(set(seen)) < len(seen):
        raise Violated("a study stands on two pages")
    if not set(seen) <= set(known) and run.has_all_pages:
        raise Violated("the pages have a study that the search without _count has not")
    if is_whole and run.has_all_pages and set(seen) != set(known):
        raise Violated(
            f"_count=1: the pages end after {len(seen)} of {plural(len(known), 'study')}"
        )
    more = "" if is_whole else "; followed no further"
    return f"{plural(len(pages), 'page')} by _count=1 and link next{more}"


async def _spellings(run: RunContext) -> str:
    patient, _ = run.known_patient(), run.known_studies()
    expected = sorted(run.first_page_ids())
    spellings = [
        ("patient", patient),
        ("patient", f"Patient/{patient}"),
        ("subject", f"Patient/{patient}"),
    ]
    for name, value in spellings:
        study_ids = ids(await run.search((name, value), patient=False))
        if sorted(study_ids) != expected:
            spelling, studies = value.replace(patient, "<id>"), plural(len(study_ids), "study")
            raise Violated(
                f"{name}={spelling} brings {studies}, not the {len(expected)} of patient=<id>"
            )
    return "patient=<id>, patient=Patient/<id> and subject=Patient/<id> are the same"


async def _posted(run: RunContext) -> str:
    patient, _ = run.known_patient(), run.known_studies()
    answer = await run.client.request(
        run.url("ImagingStudy/_search"), method="POST", form=f"patient={patient}"
    )
    study_ids, expected = ids(answer.resource("Bundle")), run.first_page_ids()
    studies = plural(len(study_ids), "study")
    if sorted(study_ids) != sorted(expected):
        raise Violated(f"POST _search brings {studies}, GET {len(expected)}")
    return f"{studies}, as by GET"


async def _head(run: RunContext) -> str:
    run.first_bundle()
    answer = await run.client.request(run.search_url(), method="HEAD")
    answer.raise_if_not_offered(405, 501)
    if answer.status != 200:
        raise Violated(f"HEAD: {answer}, GET: 200")
    return "200"


async def _unchanged(run: RunContext) -> str:
    """Check If-None-Match, where there is an ETag."""
    run.first_bundle()
    reads = [run.url(f"ImagingStudy/{study_id}") for study_id in run.first_page_ids()[:1]]
    urls = [run.search_url(), *reads]
    announced = strings([run.imaging_study().get("conditionalRead")])
    tagged = unchanged = 0
    for url in urls:
        tag = (await run.client.request(url)).headers.get("ETag")
        if tag is None:
            continue
        tagged += 1
        again = await run.client.request(url, headers={"If-None-Match": tag})
        if again.status == 200 and again.headers.get("ETag") not in (None, tag):
            continue  # Part of the answer is new each time, as capability URLs are.
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
