"""Checks of the documents that a server publishes without a token (SIA-1..3), and of CORS."""

import re
from typing import Any

from sidecar.conformance.context import Check, RunContext
from sidecar.conformance.levels import BASE, SHALL, SHOULD, WISH, NoAnswer, NotTested, Violated
from sidecar.conformance.reading import objects, strings, subject_of
from sidecar.conformance.requirements import CORS
from sidecar.conformance.response import Response

ACCESS = "smart-imaging-access"
APP_LAUNCH = "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch"
BACKEND_SERVICES = "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services"
_MODES: dict[str, tuple[str, tuple[tuple[str, str | None], ...]]] = {
    "app-launch": (APP_LAUNCH, (("grant_types_supported", "authorization_code"),)),
    "backend-services": (
        BACKEND_SERVICES,
        (
            ("grant_types_supported", "client_credentials"),
            ("token_endpoint_auth_methods_supported", "private_key_jwt"),
            ("token_endpoint_auth_signing_alg_values_supported", None),
        ),
    ),
}
"""Each mode's capability, and the members with the values that it needs (``None``: any)."""
_WELL_KNOWN = "/.well-known/smart-configuration"


async def _configuration(run: RunContext) -> str:
    answer = await run.client.request(
        run.base + _WELL_KNOWN, token=False, accept="application/json"
    )
    answer.raise_if_not_offered(404, 405, 501)
    answer.expect()
    run.configuration = _object(answer, "no JSON object")
    return f"{answer.status}, {len(run.configuration)} members"


def _object(answer: Response, otherwise: str) -> dict[str, Any]:
    configuration = answer.json()
    if not isinstance(configuration, dict):
        raise Violated(otherwise)
    return configuration


def raise_if_no_base(answer: Response) -> None:
    """Raise ``Violated`` with a hint for a 404: the FHIR base may be elsewhere."""
    if answer.status == 404:
        raise Violated(str(answer), "Is the URL of --conformance the FHIR base (often …/fhir)?")


async def _metadata(run: RunContext) -> str:
    answer = await run.client.request(run.url("metadata"), token=False)
    raise_if_no_base(answer)
    run.metadata = answer.resource("CapabilityStatement")
    if run.metadata.get("fhirVersion") != "4.0.1":
        raise Violated("fhirVersion is not 4.0.1")
    return "CapabilityStatement, fhirVersion 4.0.1"


async def _advertised(run: RunContext) -> str:
    """Find the smart-configuration that names this base: the EHR's, or that of the base itself."""
    ehr = _ehr_base(run)
    configuration = run.configuration if ehr is None else await _configuration_of(run, ehr)
    who = (
        "the EHR that the studies' subject names"
        if ehr is not None
        else "this base's smart-configuration"
    )
    if not configuration:
        raise NotTested("the studies' subjects name no EHR, and this base has no configuration")
    named = [
        strings(endpoint.get("capabilities"))
        for endpoint in objects(configuration.get("associated_endpoints"))
        if str(endpoint.get("url")).rstrip("/") in _own_bases(run)
    ]
    top = strings(configuration.get("capabilities"))
    if ACCESS in top and ehr in (None, run.base):
        run.advertised = configuration, top
        return "ImagingStudy is served by the base that says so"
    if not named:
        # Apps may learn of a base in another way, so that this breaks nothing of the guide.
        raise Violated(f"{who} does not name this base in associated_endpoints", level=WISH)
    if ACCESS not in named[0]:
        raise Violated(f"{who} names this base in associated_endpoints without {ACCESS}")
    run.advertised = configuration, named[0]
    return f"{who} has this base among its associated_endpoints"


async def _configuration_of(run: RunContext, ehr: str) -> dict[str, Any]:
    try:
        answer = await run.client.request(ehr + _WELL_KNOWN, token=False, accept="application/json")
    except NoAnswer as error:
        raise NotTested(f"of the EHR that the studies' subject names: {error}") from None
    if answer.status != 200:
        raise NotTested(
            f"the EHR that the studies' subject names has no smart-configuration: {answer}"
        )
    return _object(answer, "the EHR's smart-configuration is no JSON object")


def _ehr_base(run: RunContext) -> str | None:
    for study in run.studies:
        match = re.fullmatch(r"(https?://.+)/Patient/[^/]+", subject_of(study))
        if match is not None:
            return match[1]
    return None  # With a relative reference the Patient is at the same base.


async def _modes(run: RunContext) -> str:
    if run.advertised is None:
        raise NotTested("no smart-configuration that names this base was found")
    configuration, capabilities = run.advertised
    modes = [mode for mode, (url, _) in _MODES.items() if url in capabilities]
    if not modes:
        raise Violated(f"capabilities has neither {APP_LAUNCH} nor {BACKEND_SERVICES}")
    for mode in modes:
        for member, value in _MODES[mode][1]:
            listed = strings(configuration.get(member))
            if not listed or value not in (*listed, None):
                raise Violated(f"{mode} without {value or 'a value'} in {member}")
    scopes = strings(configuration.get("scopes_supported"))
    if "backend-services" in modes and "system/ImagingStudy.rs" not in scopes:
        text = "backend-services without system/ImagingStudy.rs in scopes_supported"
        raise Violated(text, level=SHOULD)
    return " and ".join([ACCESS, *modes])


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
    needed = ("patient", "identifier", "_lastUpdated")
    missing = [] if "search-type" in codes else ["interaction search-type"]
    missing += [f"searchParam {name}" for name in needed if not run.announces(name)]
    if missing:
        raise Violated(f"ImagingStudy without {', '.join(missing)}")
    also = [name for name in ("started", "modality", "status") if run.announces(name)]
    return f"ImagingStudy with search-type, {', '.join((*needed, *also))}"


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
    Check(3, WISH, "smart-configuration, without a token", _configuration),
    Check(3, BASE, "metadata, without a token", _metadata),
    Check(20, BASE, "ImagingStudy in the CapabilityStatement", _resources),
    Check(3, WISH, "CORS: pages in browsers may read both", _cors, CORS),
    Check(20, WISH, "CORS: the preflight of a search", _preflight_of_search, CORS),
)
LATER = (
    Check(1, SHALL, "the EHR's smart-configuration leads here", _advertised),
    Check(2, SHALL, "capabilities in the smart-configuration", _modes),
    Check(20, WISH, "CORS: pages may read searches and errors", _cors_of_search, CORS),
    Check(40, WISH, "CORS: the preflight of a retrieval", _preflight_of_retrieval, CORS),
)
"""Checks that need the studies."""
