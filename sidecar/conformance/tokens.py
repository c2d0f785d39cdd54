"""Checks of requests without a token, with a made-up token, or for others (SIA-10, 12, 22, 39)."""

import secrets

from sidecar.conformance.context import DICOM, Check, RunContext, raise_for_faults
from sidecar.conformance.levels import BASE, SHALL, WISH, Leaked, NotTested, Violated
from sidecar.conformance.reading import keys, link, patient_of, plural, resources
from sidecar.conformance.response import Response

_NOT_THERE = (404, 405, 406, 501)
"""Statuses of what no server needs to offer."""


async def _without(run: RunContext) -> str:
    for url, others in _addresses(run):
        raise_unless_401(await run.client.request(url, token=False), *others)
    return "401 with WWW-Authenticate: Bearer"


async def _junk(run: RunContext) -> str:
    for url, others in _addresses(run):
        answer = await run.client.request(url, token=False, headers=_made_up_bearer())
        raise_unless_401(answer, *others)
    return "401 with WWW-Authenticate: Bearer"


async def _in_the_query(run: RunContext) -> str:
    url = run.url("ImagingStudy", ("access_token", _made_up()))
    answer = await run.client.request(url, token=False)
    raise_unless_401(answer, 400, 403)
    return f"{answer.status}: a made-up token in the query opens nothing"


async def _retrieval_without(run: RunContext) -> str:
    url = run.study_url()
    if not run.needs_token:
        raise NotTested("the Endpoint says that its address is enough (2026-08)")
    for headers in ({}, _made_up_bearer()):
        for address, accept in ((url, DICOM), (url + "/metadata", "*/*")):
            answer = await run.client.request(address, token=False, accept=accept, headers=headers)
            raise_unless_401(answer, *(_NOT_THERE if accept == "*/*" else ()))
    return "401 with WWW-Authenticate: Bearer, for the study and its metadata"


async def _capability(run: RunContext) -> str:
    run.known_capability()
    return await _retrieval_without(run)


async def _referrers(run: RunContext) -> str:
    run.known_capability()
    answer = await run.client.request(run.study_url(), accept=DICOM, images=True)
    answer.expect()
    caching, faults = answer.headers.get("Cache-Control", "").lower(), []
    if "private" not in caching and "no-store" not in caching:
        faults.append("Cache-Control is not private or no-store")
    if answer.headers.get("Referrer-Policy") != "no-referrer":
        faults.append("no Referrer-Policy: no-referrer")
    if faults:
        raise Violated("; ".join(faults))
    return "Referrer-Policy: no-referrer, and Cache-Control"


def _addresses(run: RunContext) -> list[tuple[str, tuple[int, ...]]]:
    """Return the URLs of searches and reads, and what beside a 401 is right for each."""
    patients = (run.patient or run.absent_patient, run.absent_patient)
    reads = [run.read_url(), run.url(f"ImagingStudy/{run.absent_uid}")]
    return [
        *((run.url("ImagingStudy", ("patient", patient)), ()) for patient in patients),
        *((url, _NOT_THERE) for url in reads if url is not None),
    ]


def raise_unless_401(answer: Response, *others: int) -> None:
    """Raise ``Leaked`` for a success, ``Violated`` for another denial than a 401 or ``others``."""
    if 200 <= answer.status < 300:
        raise Leaked(str(answer))
    if answer.status in others:
        return
    if answer.status != 401:
        raise Violated(str(answer), level=BASE)
    challenges = answer.headers.getall("WWW-Authenticate", ())
    if not any(challenge.lower().startswith("bearer") for challenge in challenges):
        raise Violated("401 without WWW-Authenticate: Bearer", level=BASE)


def _made_up() -> str:
    return secrets.token_urlsafe(32)


def _made_up_bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {_made_up()}"}


async def _other_patient(run: RunContext) -> str:
    run.first_bundle()
    absent = run.absent_patient
    raise_unless_403(await run.client.request(run.url("ImagingStudy", ("patient", absent))))
    others = {
        "Patient/<id>": await run.client.request(
            run.url("ImagingStudy", ("patient", f"Patient/{absent}"))
        ),
        "subject": await run.client.request(run.url("ImagingStudy", ("subject", absent))),
        "POST _search": await run.client.request(
            run.url("ImagingStudy/_search"), method="POST", form=f"patient={absent}"
        ),
        "Patient/<id>/ImagingStudy": await run.client.request(
            run.url(f"Patient/{absent}/ImagingStudy")
        ),
    }
    for what, answer in others.items():
        # A server need not have these forms, and may disregard a parameter that it does not know.
        if answer.status < 400 and not (what == "subject" and _has_own(run, answer)):
            raise_unless_403(answer, what)
    return "403 for a made-up patient, by patient, subject and POST"


def _has_own(run: RunContext, answer: Response) -> bool:
    """Return whether the answer has the token's patient's studies alone, one at least."""
    studies = resources(answer.resource("Bundle"), "ImagingStudy")
    return bool(studies) and all(patient_of(study) == run.patient for study in studies)


async def _both_patients(run: RunContext) -> str:
    both = f"{run.known_patient()},{run.absent_patient}"
    answer = await run.client.request(run.url("ImagingStudy", ("patient", both)))
    if not 400 <= answer.status < 500:
        raise Violated(f"patient=<own>,<made-up>: {answer}")
    return f"{answer.status} for a search with the own and a made-up patient"


def raise_unless_403(
    answer: Response, what: str = "patient", whose: str = "a made-up patient"
) -> None:
    """Raise ``Violated`` if a search for somebody else brings another answer than a 403."""
    if 200 <= answer.status < 300:
        studies = plural(len(keys(answer.resource("Bundle"))), "study")
        raise Leaked(f"search ({what}) for {whose}: {answer.status}, a Bundle with {studies}")
    if answer.status != 403:
        raise Violated(f"search ({what}) for {whose}: {answer}")


async def _subjects(run: RunContext) -> str:
    run.known_patient()
    studies = run.known_studies()
    fault = (SHALL, "a study of another patient")
    raise_for_faults((fault,) * run.foreign, len(studies) + run.foreign)
    return f"{plural(len(studies), 'study')}, each with the patient as its subject"


async def _without_patient(run: RunContext) -> str:
    """Check that a search without a patient brings the token's patient's studies, or none."""
    patient, _ = run.known_patient(), run.first_bundle()
    run.raise_if_service()
    answer = await run.client.request(run.url("ImagingStudy"))
    if 400 <= answer.status < 500 or answer.status == 501:
        return f"{answer.status} for a search that names no patient"
    bundle = answer.resource("Bundle")
    if any(patient_of(resource) != patient for resource in resources(bundle, "ImagingStudy")):
        raise Leaked("a search that names no patient brings studies of others")
    return "a search that names no patient brings this one's studies alone"


async def _no_token_in_links(run: RunContext) -> str:
    bundle = run.first_bundle()
    links = [link(bundle, relation, run.base) or "" for relation in ("self", "next")]
    if any("access_token" in url for url in links):
        raise Violated("a link has access_token in its query")
    if run.client.record.token_seen:
        raise Violated("an answer has the token in it, in an address, a text or a header")
    return "no answer has it"


TOKENS = (
    Check(10, SHALL, "FHIR without a token", _without),
    Check(10, SHALL, "FHIR with a made-up token", _junk),
    Check(10, SHALL, "a token in the query", _in_the_query),
    Check(39, SHALL, "images without a token, or with a made-up one", _retrieval_without),
    Check(50, SHALL, "a capability URL without its token", _capability),
    Check(54, WISH, "referrers and caches of such addresses", _referrers),
    Check(12, SHALL, "each study is the patient's", _subjects),
    Check(12, SHALL, "a search that names no patient", _without_patient),
    Check(22, SHALL, "another patient's studies", _other_patient),
    Check(22, WISH, "another patient's beside the own", _both_patients),
)
LAST = (Check(54, WISH, "the token in addresses and answers", _no_token_in_links),)
"""Checks of all answers."""
