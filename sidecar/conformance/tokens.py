"""Who is let in at all: requests without a token, with one that is none, and for another patient (SIA-10, 12, 22)."""

import secrets

from sidecar.conformance.client import Response, Violated
from sidecar.conformance.visit import (
    DICOM,
    Check,
    Visit,
    counted,
    ids,
    link,
    none_of,
    patient_of,
    resources,
)


async def _without(visit: Visit) -> str:
    for url in _addresses(visit):
        _is_401(await visit.client.ask(url, token=False))
    return "401 with WWW-Authenticate: Bearer"


async def _junk(visit: Visit) -> str:
    for url in _addresses(visit):
        _is_401(
            await visit.client.ask(
                url, token=False, headers={"Authorization": f"Bearer {_made_up()}"}
            )
        )
    return "401 with WWW-Authenticate: Bearer"


async def _in_the_query(visit: Visit) -> str:
    url = visit.url("ImagingStudy", [("access_token", _made_up())])
    _is_401(await visit.client.ask(url, token=False))
    return "401: a made-up token in the query opens nothing"


async def _retrieval_without(visit: Visit) -> str:
    root, study = visit.known_study()
    for headers in ({}, {"Authorization": f"Bearer {_made_up()}"}):
        for path in ("", "/metadata"):
            url = f"{root}/studies/{study}{path}"
            _is_401(
                await visit.client.ask(
                    url, token=False, accept="*/*" if path else DICOM, headers=headers
                )
            )
    return "401 with WWW-Authenticate: Bearer, for the study and its metadata"


async def _capability(visit: Visit) -> str:
    visit.known_capability()
    return await _retrieval_without(visit)


async def _referrers(visit: Visit) -> str:
    root, study = visit.known_capability()
    answer = await visit.client.ask(f"{root}/studies/{study}", accept=DICOM, images=True)
    if answer.status != 200:
        raise Violated(str(answer))
    caching = answer.headers.get("Cache-Control", "").lower()
    faults = (
        []
        if "private" in caching or "no-store" in caching
        else ["Cache-Control is not private or no-store"]
    )
    if answer.headers.get("Referrer-Policy") != "no-referrer":
        faults.append("no Referrer-Policy: no-referrer")
    if faults:
        raise Violated("; ".join(faults))
    return "Referrer-Policy: no-referrer, and Cache-Control"


def _addresses(visit: Visit) -> list[str]:
    """A search, a read, and another patient's search: what is refused first must not depend on what is asked for."""
    known = visit.first_page()[:1]
    return [
        visit.url("ImagingStudy", [("patient", visit.patient or visit.absent_patient)]),
        visit.url("ImagingStudy", [("patient", visit.absent_patient)]),
        *(visit.url(f"ImagingStudy/{one}") for one in [*known, visit.absent_uid]),
    ]


def _is_401(answer: Response) -> None:
    if answer.status != 401:
        raise Violated(str(answer))
    if not any(
        one.lower().startswith("bearer") for one in answer.headers.getall("WWW-Authenticate", ())
    ):
        raise Violated("401 without WWW-Authenticate: Bearer")


def _made_up() -> str:
    return secrets.token_urlsafe(32)


async def _other_patient(visit: Visit) -> str:
    visit.answered()
    absent = visit.absent_patient
    forms = [
        ("patient", absent),
        ("patient", f"Patient/{absent}"),
        ("subject", f"Patient/{absent}"),
    ]
    for one in forms:
        _is_refused(await visit.client.ask(visit.url("ImagingStudy", [one])), one[0])
    posted = await visit.client.ask(
        visit.url("ImagingStudy/_search"), method="POST", form=f"patient={absent}"
    )
    if posted.status not in (404, 405):  # Whether there is _search at all is looked at elsewhere.
        _is_refused(posted, "POST _search")
    compartment = await visit.client.ask(visit.url(f"Patient/{absent}/ImagingStudy"))
    if compartment.status < 400:  # It need not be there.
        _is_refused(compartment, "Patient/<id>/ImagingStudy")
    return "403 for a made-up patient, by patient, subject and POST"


async def _both_patients(visit: Visit) -> str:
    both = f"{visit.known_patient()},{visit.absent_patient}"
    answer = await visit.client.ask(visit.url("ImagingStudy", [("patient", both)]))
    if answer.status not in (400, 403):
        raise Violated(f"patient=<own>,<made-up>: {answer}")
    return f"{answer.status} for a search with the own and a made-up patient"


def _is_refused(answer: Response, what: str) -> None:
    if answer.status == 200:
        found = len(ids(answer.resource("Bundle")))
        raise Violated(f"{what} of a made-up patient: 200, a Bundle with {counted(found, 'study')}")
    if answer.status != 403:
        raise Violated(f"{what} of a made-up patient: {answer}")


async def _subjects(visit: Visit) -> str:
    visit.known_patient()
    studies = visit.known_studies()
    none_of(("a study of another patient",) * visit.foreign, len(studies) + visit.foreign)
    return f"{counted(len(studies), 'study')}, each with the patient as its subject"


async def _without_patient(visit: Visit) -> str:
    """A search that names nobody brings the token's patient, or nothing."""
    patient, _ = visit.known_patient(), visit.answered()
    answer = await visit.client.ask(visit.url("ImagingStudy"))
    if answer.status in (400, 403):
        return f"{answer.status} for a search that names no patient"
    bundle = answer.resource("Bundle")
    if any(patient_of(one) != patient for one in resources(bundle, "ImagingStudy")):
        raise Violated("a search that names no patient brings studies of others")
    return "a search that names no patient brings this one's studies alone"


async def _no_token_in_links(visit: Visit) -> str:
    bundle = visit.answered()
    found = [link(bundle, relation, visit.base) or "" for relation in ("self", "next")]
    if any("access_token" in one for one in found):
        raise Violated("a link has access_token in its query")
    if visit.client.record.token_seen:
        raise Violated("an answer has the token in it, in an address, a text or a header")
    return "no answer has it"


TOKENS = (
    Check(10, "FHIR without a token", _without),
    Check(10, "FHIR with a made-up token", _junk),
    Check(10, "a token in the query", _in_the_query),
    Check(10, "images without a token, or with a made-up one", _retrieval_without),
    Check(50, "a capability URL without its token", _capability),
    Check(54, "referrers and caches of such addresses", _referrers),
    Check(12, "each study is the patient's", _subjects),
    Check(12, "a search that names no patient", _without_patient),
    Check(22, "another patient's studies", _other_patient),
    Check(22, "another patient's beside the own", _both_patients),
)
LAST = (Check(54, "the token in addresses and answers", _no_token_in_links),)
"""When everything has been asked."""
