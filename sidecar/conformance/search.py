"""Checks of the search for a patient's studies: its forms, its Bundle, its pages (SIA-20, 24)."""

from collections import Counter

from sidecar.conformance.context import Check, Fault, RunContext, raise_for_faults
from sidecar.conformance.discovery import raise_if_no_base
from sidecar.conformance.levels import BASE, SHALL, WISH, NotTested, Violated
from sidecar.conformance.reading import (
    key_of,
    keys,
    link,
    objects,
    patient_of,
    plural,
    resources,
    strings,
)
from sidecar.conformance.requirements import ACCEPT
from sidecar.conformance.response import FHIR_JSON


async def _finds(run: RunContext) -> str:
    """Collect the patient's studies of all pages, for this check and later checks."""
    if run.is_service:
        run.known_patient()
    answer = await run.client.request(run.search_url(("_include", "ImagingStudy:endpoint")))
    if answer.status == 401:
        raise Violated(
            str(answer), "The token is not active here (any more), or not for this server."
        )
    if run.patient is None and answer.status in (400, 403, 422):
        # No server needs to search without a patient.
        raise NotTested(f"the token's patient is not known (--patient): {answer.status}")
    if answer.status == 403:
        raise Violated(
            str(answer), "Is --patient the token's patient, and has the token a scope for this?"
        )
    raise_if_no_base(answer)
    run.bundle = answer.resource("Bundle")
    pages, run.has_all_pages = await run.pages(run.bundle)
    run.pages_seen = pages
    studies = [study for page in pages for study in resources(page, "ImagingStudy")]
    for page in pages:
        run.store_endpoints(page)
    if run.patient is None:
        # The patient of most studies is the token's. A leaked study must not decide.
        subjects = Counter(subject for study in studies if (subject := patient_of(study)))
        run.patient = next((subject for subject, _ in subjects.most_common(1)), None)
    run.studies = [study for study in studies if patient_of(study) in (run.patient, None)]
    run.foreign = len(studies) - len(run.studies)
    more = "" if run.has_all_pages else f" on {plural(len(pages), 'page')}; there are more"
    return f"{plural(len(studies), 'study')}{more}"


async def _bundle(run: RunContext) -> str:
    bundle = run.first_bundle()
    faults: list[Fault] = []
    if bundle.get("type") != "searchset":
        faults.append((SHALL, "type is not searchset"))
    total = bundle.get("total")
    if not isinstance(total, int) or isinstance(total, bool):
        faults.append((WISH, "no total"))
    elif run.has_all_pages and total != (number := len(run.studies) + run.foreign):
        faults.append((BASE, f"total is {total}, but there are {plural(number, 'study')}"))
    if link(bundle, "self", run.base) is None:
        faults.append((BASE, "no link self"))
    raise_for_faults(faults, 1)
    return f"searchset, total {total}, link self"


async def _entries(run: RunContext) -> str:
    bundle = run.first_bundle()
    entries, faults = objects(bundle.get("entry")), []
    modes = {"ImagingStudy": "match", "OperationOutcome": "outcome"}
    for entry in entries:
        resource, search = entry.get("resource"), entry.get("search")
        kind = str(resource.get("resourceType")) if isinstance(resource, dict) else None
        mode = search.get("mode") if isinstance(search, dict) else None
        expected = modes.get(kind or "", "include")
        if kind is None:
            faults.append((BASE, "an entry without a resource"))
        elif mode != expected:
            shown = kind if kind in (*modes, "Endpoint") else "another resource"
            faults.append((BASE, f"{shown} without search.mode {expected}"))
        if not isinstance(entry.get("fullUrl"), str) and kind != "OperationOutcome":
            faults.append((BASE, "an entry without fullUrl"))
    raise_for_faults(faults, len(entries))
    return plural(len(entries), "entry")


async def _media_type(run: RunContext) -> str:
    run.first_bundle()
    answer = await run.client.request(run.search_url())
    if answer.media_type != FHIR_JSON:
        raise Violated(f"Accept: {FHIR_JSON} brings {answer}")
    refusal = await run.client.request(run.search_url(), accept="application/x-nonsense")
    if refusal.status != 406:
        text = f"Accept: application/x-nonsense brings {refusal}"
        raise Violated(text, level=WISH)  # RFC 9110 12.5.1 lets servers disregard it.
    return f"{FHIR_JSON}; 406 for nonsense"


async def _pages(run: RunContext) -> str:
    known = [key_of(study) for study in run.known_studies()]
    if len(known) < 2:
        raise NotTested("the patient has fewer than two studies")
    bundle = await run.search(("_count", "1"))
    if (size := len(keys(bundle))) > 1:
        raise Violated(f"_count=1 brings a page of {plural(size, 'study')}")
    pages, is_whole = await run.pages(bundle)
    seen = [key for page in pages for key in keys(page)]
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
    expected = sorted(run.first_page_keys())
    spellings = [
        ("patient", patient),
        ("patient", f"Patient/{patient}"),
        ("subject", f"Patient/{patient}"),
    ]
    for name, value in spellings:
        answer = await run.client.request(run.url("ImagingStudy", (name, value)))
        if name == "subject" and answer.status in (400, 403):
            continue  # A server may not have it.
        found = keys(answer.resource("Bundle"))
        if sorted(found) != expected:
            spelling, studies = value.replace(patient, "<id>"), plural(len(found), "study")
            raise Violated(
                f"{name}={spelling} brings {studies}, not the {len(expected)} of patient=<id>"
            )
    return "patient=<id>, patient=Patient/<id> and subject=Patient/<id> are the same"


async def _posted(run: RunContext) -> str:
    patient, _ = run.known_patient(), run.known_studies()
    answer = await run.client.request(
        run.url("ImagingStudy/_search"), method="POST", form=f"patient={patient}"
    )
    answer.raise_if_not_offered()
    found, expected = keys(answer.resource("Bundle")), run.first_page_keys()
    studies = plural(len(found), "study")
    if sorted(found) != sorted(expected):
        raise Violated(f"POST _search brings {studies}, GET {len(expected)}")
    return f"{studies}, as by GET"


async def _head(run: RunContext) -> str:
    run.first_bundle()
    answer = await run.client.request(run.search_url(), method="HEAD")
    answer.raise_if_not_offered(403, 405, 501)
    if answer.status != 200:
        raise Violated(f"HEAD: {answer}, GET: 200")
    return "200"


async def _unchanged(run: RunContext) -> str:
    """Check If-None-Match, where there is an ETag."""
    run.first_bundle()
    read = run.read_url()
    urls = [run.search_url(), *([read] if read else [])]
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


FIND = (Check(20, SHALL, "a search for the patient's studies", _finds),)
SEARCH = (
    Check(24, SHALL, "the Bundle", _bundle),
    Check(24, BASE, "its entries", _entries),
    Check(24, BASE, "Accept and Content-Type", _media_type, ACCEPT),
    Check(24, BASE, "pages", _pages),
    Check(20, BASE, "spellings of the patient", _spellings),
    Check(20, BASE, "search by POST", _posted),
    Check(20, WISH, "HEAD of a search", _head),
    Check(25, WISH, "ETag and If-None-Match", _unchanged),
)
