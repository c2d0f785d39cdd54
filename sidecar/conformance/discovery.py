"""Checks of the documents that a server publishes without a token (SIA-1..3), and of CORS."""

import re
from typing import Any

from sidecar.conformance.client import NoAnswer, NotTested, Response, Violated
from sidecar.conformance.context import Check, RunContext, objects, strings, subject_of
from sidecar.conformance.requirements import CORS

ACCESS = "smart-imaging-access"
APP_LAUNCH = "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch"
BACKEND_SERVICES = "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services"
_METADATA: dict[str, tuple[tuple[str, str | None], ...]] = {
    "app-launch": (("grant_types_supported", "authorization_code"),),
    "backend-services": (
        ("grant_types_supported", "client_credentials"),
        ("token_endpoint_auth_methods_supported", "private_key_jwt"),
        ("token_endpoint_auth_signing_alg_values_supported", None),
    ),
}
"""Members that each mode needs, and a value that is in it, ``None``: any."""
_WELL_KNOWN = "/.well-known/smart-configuration"


async def _configuration(run: RunContext) -> str:
    answer = await run.client.request(
        run.base + _WELL_KNOWN, token=False, accept="application/json"
    )
    _raise_if_no_base(answer)
    answer.expect()
    configuration = answer.json()
    if not isinstance(configuration, dict):
        raise Violated("no JSON object")
    run.configuration = configuration
    return f"{answer.status}, {len(configuration)} members"


def _raise_if_no_base(answer: Response) -> None:
    if answer.status == 404:
        raise Violated(str(answer), "Is the URL of --conformance the FHIR base (often …/fhir)?")


async def _metadata(run: RunContext) -> str:
    answer = await run.client.request(run.url("metadata"), token=False)
    _raise_if_no_base(answer)
    run.metadata = answer.resource("CapabilityStatement")
    if run.metadata.get("fhirVersion") != "4.0.1":
        raise Violated("fhirVersion is not 4.0.1")
    return "CapabilityStatement, fhirVersion 4.0.1"


async def _capabilities(run: RunContext) -> str:
    if not run.configuration:
        raise NotTested("there is no smart-configuration")
    capabilities = strings(run.configuration.get("capabilities"))
    if ACCESS not in capabilities:
        raise Violated(f"capabilities has no {ACCESS}")
    kinds = [
        name
        for name, url in (("app-launch", APP_LAUNCH), ("backend-services", BACKEND_SERVICES))
        if url in capabilities
    ]
    if not kinds:
        raise Violated(f"capabilities has neither {APP_LAUNCH} nor {BACKEND_SERVICES}")
    for kind in kinds:
        for member, value in _METADATA[kind]:
            found = strings(run.configuration.get(member))
            if not found or value not in (None, *found):
                raise Violated(f"{kind} without {value or 'anything'} in {member}")
    return " and ".join([ACCESS, *kinds])


async def _endpoints_of_the_ehr(run: RunContext) -> str:
    ehr = _ehr_base(run)
    try:
        answer = await run.client.request(ehr + _WELL_KNOWN, token=False, accept="application/json")
    except NoAnswer as error:
        raise NotTested(f"the EHR that the studies' subject names: {error}") from None
    if answer.status != 200:
        raise NotTested(
            f"the EHR that the studies' subject names has no smart-configuration: {answer}"
        )
    configuration = answer.json()
    if not isinstance(configuration, dict):
        raise Violated("the EHR's smart-configuration is no JSON object")
    if ehr == run.base and ACCESS in strings(configuration.get("capabilities")):
        return "the EHR serves ImagingStudy itself, and says so"
    for endpoint in objects(configuration.get("associated_endpoints")):
        if str(endpoint.get("url")).rstrip("/") in _own_bases(run):
            if ACCESS in strings(endpoint.get("capabilities")):
                return (
                    "the EHR that the studies' subject names has this base among its "
                    "associated_endpoints"
                )
            raise Violated(f"the EHR names this base in associated_endpoints without {ACCESS}")
    raise Violated(
        "the EHR that the studies' subject names does not name this base in associated_endpoints"
    )


def _ehr_base(run: RunContext) -> str:
    for study in run.known_studies():
        match = re.fullmatch(r"(https?://.+)/Patient/[^/]+", subject_of(study))
        if match is not None:
            return match[1]
    return run.base  # With a relative reference the Patient is at the same base.


def _own_bases(run: RunContext) -> set[str]:
    """Return the FHIR base of the command line, and the one in the CapabilityStatement."""
    implementation = run.metadata.get("implementation")
    url: Any = implementation.get("url") if isinstance(implementation, dict) else None
    return {run.base} | ({url.rstrip("/")} if isinstance(url, str) else set())


async def _resources(run: RunContext) -> str:
    if not run.metadata:
        raise NotTested("there is no CapabilityStatement")
    if not run.imaging_study():
        raise Violated("it has no ImagingStudy")
    codes = [
        interaction.get("code") for interaction in objects(run.imaging_study().get("interaction"))
    ]
    missing = [f"interaction {code}" for code in ("read", "search-type") if code not in codes]
    missing += [
        f"searchParam {name}" for name in ("patient", "identifier") if not run.announces(name)
    ]
    if missing:
        raise Violated(f"ImagingStudy without {', '.join(missing)}")
    also = [
        name for name in ("_lastUpdated", "started", "modality", "status") if run.announces(name)
    ]
    return "ImagingStudy with read, search-type, patient, identifier" + (
        f"; also {', '.join(also)}" if also else ""
    )


async def _cors(run: RunContext) -> str:
    for path in (_WELL_KNOWN, "/metadata"):
        headers = {"Origin": run.origin}
        answer = await run.client.request(
            run.base + path,
            token=False,
            accept="application/json, application/fhir+json",
            headers=headers,
        )
        _allows(run, answer, path)
    return "Access-Control-Allow-Origin is there"


async def _preflight_of_search(run: RunContext) -> str:
    return await _preflight(run, run.url("ImagingStudy"))


async def _preflight_of_retrieval(run: RunContext) -> str:
    return await _preflight(run, run.study_url())


async def _cors_of_search(run: RunContext) -> str:
    for token, what in ((False, "without a token"), (True, "a search")):
        if token and not run.client.has_token:
            break
        origin = {"Origin": run.origin}
        answer = await run.client.request(run.search_url(), token=token, headers=origin)
        _allows(run, answer, f"{what} ({answer.status})")
    return "Access-Control-Allow-Origin is there, on errors, too"


async def _preflight(run: RunContext, url: str) -> str:
    """Send the request by which a browser asks whether a page may send the token.

    Raises ``Violated`` (https://fetch.spec.whatwg.org/#cors-preflight-fetch).
    """
    headers = {
        "Origin": run.origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = await run.client.request(
        url, method="OPTIONS", token=False, accept="*/*", headers=headers
    )
    if not 200 <= answer.status < 300:
        raise Violated(f"OPTIONS from a page in a browser: {answer}")
    _allows(run, answer, "OPTIONS")
    # "*" does not include Authorization.
    allowed = answer.headers.get("Access-Control-Allow-Headers", "").lower().split(",")
    if "authorization" not in map(str.strip, allowed):
        raise Violated("OPTIONS: Access-Control-Allow-Headers has no Authorization")
    return f"{answer.status}, Authorization is allowed"


def _allows(run: RunContext, answer: Response, what: str) -> None:
    """Raise ``Violated`` unless a page may read the answer."""
    value = answer.headers.get("Access-Control-Allow-Origin")
    if value not in ("*", run.origin):
        name = "Access-Control-Allow-Origin"
        why = f"no {name}" if value is None else f"{name} is another"
        raise Violated(f"{what}: {why} (for {run.origin}; --origin tries an app's)")


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
"""Checks that need the studies."""
