"""Checks of a run's answers: errors, waiting, caching; and what no client can check."""

import json

from sidecar.conformance.context import Check, CheckFunction, RunContext
from sidecar.conformance.levels import BASE, MAY, WISH, NotTested, Violated
from sidecar.conformance.reading import plural, uid_of
from sidecar.conformance.requirements import BEYOND_A_CLIENT, OUTCOMES


async def _outcomes(run: RunContext) -> str:
    """Check that FHIR errors come as OperationOutcome (R4 http.html#summary)."""
    bodies = [body for request, body in run.client.record.refusals if _is_fhir(run, request)]
    if not bodies:
        raise NotTested("no error of FHIR was met")
    errors, others = plural(len(bodies), "error"), sum(not _is_outcome(b) for b in bodies if b)
    if others:
        raise Violated(f"{others} of {errors} have another body than an OperationOutcome")
    return errors


def _is_fhir(run: RunContext, request: str) -> bool:
    is_plain = "%" not in request and "\\" not in request
    return is_plain and request.startswith(f"{run.base}/ImagingStudy")


def _is_outcome(body: bytes) -> bool:
    try:
        resource = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(resource, dict) and resource.get("resourceType") == "OperationOutcome"


async def _error_texts(run: RunContext) -> str:
    """Check that no error has an identifier that is not in its request."""
    uids = {uid_of(study) or "" for study in run.studies}
    known = {run.patient or ""} | run.patient_ids | run.names | uids
    identifiers = [identifier for identifier in known if len(identifier) > 2]
    refusals = run.client.record.refusals
    if not refusals:
        raise NotTested("no error was met")
    for request, body in refusals:
        text = body.decode("utf-8", "replace")
        if any(name not in request and _stands_alone(name, text) for name in identifiers):
            raise Violated(
                "an error's text names the patient or a study that the request did not name"
            )
    return f"{plural(len(refusals), 'error')}, none names the patient or a study by itself"


def _stands_alone(identifier: str, text: str) -> bool:
    """Return whether ``text`` has the identifier, and not in a longer name, number or UID."""
    at = text.find(identifier)
    while at >= 0:
        end = at + len(identifier)
        before, after = text[max(at - 1, 0) : at], text[end : end + 2]
        goes_on = _is_word(after[:1]) or after[:1] == "-"
        is_longer_uid = after[:1] == "." and _is_word(after[1:])
        has_begun = _is_word(before) or before in (".", "-")
        if not (goes_on or is_longer_uid or has_begun):
            return True
        at = text.find(identifier, at + 1)
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


async def _slow_searches(run: RunContext) -> str:
    return _waits(run, images=False)


async def _slow_retrievals(run: RunContext) -> str:
    return _waits(run, images=True)


def _waits(run: RunContext, *, images: bool) -> str:
    waits = [
        has_seconds for of_images, has_seconds in run.client.record.waits if of_images is images
    ]
    if not waits:
        raise NotTested("no 503 was met")
    if not all(waits):
        raise Violated("a 503 without Retry-After in seconds")
    return f"{len(waits)} times 503, each with Retry-After in seconds"


async def _caching(run: RunContext) -> str:
    run.first_bundle()
    if run.client.record.public:
        raise Violated("an answer to a request with a token has Cache-Control: public")
    return "no answer to a request with a token is for shared caches"


def _beyond(why: str) -> CheckFunction:
    async def function(run: RunContext) -> str:
        raise NotTested(why)

    return function


WHOLE_RUN = (
    Check(20, BASE, "errors are OperationOutcomes", _outcomes, OUTCOMES),
    Check(45, WISH, "no identifiers in errors", _error_texts),
    Check(23, MAY, "503 while a search takes longer", _slow_searches),
    Check(44, MAY, "503 while images are staged", _slow_retrievals),
    Check(54, WISH, "shared caches", _caching),
)
ELSE = "what else it demands"
BEYOND = tuple(
    Check(number, level, ELSE, _beyond(why)) for number, (level, why) in BEYOND_A_CLIENT.items()
)
"""Checks that give each remaining requirement its line in the report."""
