"""What a server says of itself without a token (SIA-1..3), and whether browsers let pages read it."""

import re
from typing import Any

from sidecar.conformance.client import NoAnswer, NotTested, Response, Violated
from sidecar.conformance.requirements import CORS
from sidecar.conformance.visit import Check, Visit, objects, strings

ACCESS = "smart-imaging-access"
APP_LAUNCH = "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch"
BACKEND_SERVICES = "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services"
_WELL_KNOWN = "/.well-known/smart-configuration"


async def _configuration(visit: Visit) -> str:
    answer = await visit.client.ask(
        visit.base + _WELL_KNOWN, token=False, accept="application/json"
    )
    if answer.status != 200:
        raise Violated(str(answer))
    found = answer.json()
    if not isinstance(found, dict):
        raise Violated("no JSON object")
    visit.configuration = found
    return f"{answer.status}, {len(found)} members"


async def _metadata(visit: Visit) -> str:
    answer = await visit.client.ask(visit.url("metadata"), token=False)
    found = answer.resource("CapabilityStatement")
    visit.metadata = found
    if found.get("fhirVersion") != "4.0.1":
        raise Violated("fhirVersion is not 4.0.1")
    return "CapabilityStatement, fhirVersion 4.0.1"


async def _capabilities(visit: Visit) -> str:
    if not visit.configuration:
        raise NotTested("there is no smart-configuration")
    found = strings(visit.configuration.get("capabilities"))
    if ACCESS not in found:
        raise Violated(f"capabilities has no {ACCESS}")
    kinds = [
        name
        for name, url in (("app-launch", APP_LAUNCH), ("backend-services", BACKEND_SERVICES))
        if url in found
    ]
    if not kinds:
        raise Violated(f"capabilities has neither {APP_LAUNCH} nor {BACKEND_SERVICES}")
    grants = strings(visit.configuration.get("grant_types_supported"))
    if "backend-services" in kinds and "client_credentials" not in grants:
        raise Violated("backend-services without client_credentials in grant_types_supported")
    return " and ".join([ACCESS, *kinds])


async def _endpoints_of_the_ehr(visit: Visit) -> str:
    ehr = _ehr_base(visit)
    try:
        answer = await visit.client.ask(ehr + _WELL_KNOWN, token=False, accept="application/json")
    except NoAnswer as error:
        raise NotTested(f"the EHR that the studies' subject names: {error}") from None
    if answer.status != 200:
        raise NotTested(
            f"the EHR that the studies' subject names has no smart-configuration: {answer}"
        )
    found = answer.json()
    if not isinstance(found, dict):
        raise Violated("the EHR's smart-configuration is no JSON object")
    if ehr == visit.base and ACCESS in strings(found.get("capabilities")):
        return "the EHR serves ImagingStudy itself, and says so"
    for one in objects(found.get("associated_endpoints")):
        if str(one.get("url")).rstrip("/") in _own_bases(visit):
            if ACCESS in strings(one.get("capabilities")):
                return "the EHR that the studies' subject names has this base among its associated_endpoints"
            raise Violated(f"the EHR names this base in associated_endpoints without {ACCESS}")
    raise Violated(
        "the EHR that the studies' subject names does not name this base in associated_endpoints"
    )


def _ehr_base(visit: Visit) -> str:
    for study in visit.known_studies():
        subject = study.get("subject")
        reference = subject.get("reference") if isinstance(subject, dict) else None
        match = (
            re.fullmatch(r"(https?://.+)/Patient/[^/]+", reference)
            if isinstance(reference, str)
            else None
        )
        if match is not None:
            return match[1]
    return visit.base  # A relative reference: the Patient is here.


def _own_bases(visit: Visit) -> set[str]:
    """As we were given it, and as it names itself: it may be known by several names."""
    implementation = visit.metadata.get("implementation")
    named: Any = implementation.get("url") if isinstance(implementation, dict) else None
    return {visit.base} | ({named.rstrip("/")} if isinstance(named, str) else set())


async def _resources(visit: Visit) -> str:
    if not visit.metadata:
        raise NotTested("there is no CapabilityStatement")
    if not visit.imaging_study():
        raise Violated("it has no ImagingStudy")
    codes = [one.get("code") for one in objects(visit.imaging_study().get("interaction"))]
    missing = [f"interaction {code}" for code in ("read", "search-type") if code not in codes]
    missing += [
        f"searchParam {name}" for name in ("patient", "identifier") if not visit.announces(name)
    ]
    if missing:
        raise Violated(f"ImagingStudy without {', '.join(missing)}")
    also = [
        name for name in ("_lastUpdated", "started", "modality", "status") if visit.announces(name)
    ]
    return "ImagingStudy with read, search-type, patient, identifier" + (
        f"; also {', '.join(also)}" if also else ""
    )


async def _cors(visit: Visit) -> str:
    for path in (_WELL_KNOWN, "/metadata"):
        headers = {"Origin": visit.origin}
        answer = await visit.client.ask(
            visit.base + path,
            token=False,
            accept="application/json, application/fhir+json",
            headers=headers,
        )
        _allows(visit, answer, path)
    return "Access-Control-Allow-Origin is there"


async def _preflight_of_search(visit: Visit) -> str:
    return await _preflight(visit, visit.url("ImagingStudy"))


async def _preflight_of_retrieval(visit: Visit) -> str:
    root, study = visit.known_study()
    return await _preflight(visit, f"{root}/studies/{study}")


async def _cors_of_search(visit: Visit) -> str:
    for token, what in ((False, "without a token"), (True, "a search")):
        if token and not visit.client.has_token:
            break
        parameters = [("patient", visit.patient)] if visit.patient is not None else []
        url = visit.url("ImagingStudy", parameters)
        answer = await visit.client.ask(url, token=token, headers={"Origin": visit.origin})
        _allows(visit, answer, f"{what} ({answer.status})")
    return "Access-Control-Allow-Origin is there, on errors, too"


async def _preflight(visit: Visit, url: str) -> str:
    """Ask as a browser does before it lets a page send the token (https://fetch.spec.whatwg.org/#cors-preflight-fetch).

    Raises ``Violated``.
    """
    headers = {
        "Origin": visit.origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = await visit.client.ask(
        url, method="OPTIONS", token=False, accept="*/*", headers=headers
    )
    if not 200 <= answer.status < 300:
        raise Violated(f"OPTIONS from a page in a browser: {answer}")
    _allows(visit, answer, "OPTIONS")
    allowed = {
        one.strip().lower()
        for one in answer.headers.get("Access-Control-Allow-Headers", "").split(",")
    }
    # "*" does not stand for Authorization.
    if "authorization" not in allowed:
        raise Violated("OPTIONS: Access-Control-Allow-Headers has no Authorization")
    return f"{answer.status}, Authorization is allowed"


def _allows(visit: Visit, answer: Response, what: str) -> None:
    """Raise ``Violated`` unless a page may read the answer."""
    value = answer.headers.get("Access-Control-Allow-Origin")
    if value not in ("*", visit.origin):
        why = (
            "no Access-Control-Allow-Origin"
            if value is None
            else "Access-Control-Allow-Origin is another"
        )
        raise Violated(f"{what}: {why} (for {visit.origin}; --origin tries an app's)")


DISCOVERY = (
    Check(3, "smart-configuration, without a token", _configuration),
    Check(3, "metadata, without a token", _metadata),
    Check(2, "capabilities in the smart-configuration", _capabilities),
    Check(20, "ImagingStudy in the CapabilityStatement", _resources),
    Check(3, "CORS: pages in browsers may read both", _cors, CORS),
    Check(20, "CORS: the preflight of a search", _preflight_of_search, CORS),
)
LATER = (
    Check(1, "the EHR's smart-configuration leads here", _endpoints_of_the_ehr),
    Check(20, "CORS: pages may read searches and errors", _cors_of_search, CORS),
    Check(40, "CORS: the preflight of a retrieval", _preflight_of_retrieval, CORS),
)
"""What needs the studies."""
