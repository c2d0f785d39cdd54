"""What the whole run showed: errors, waiting, caching; and what no client can see."""

import json

from sidecar.conformance.client import NotTested, Violated
from sidecar.conformance.requirements import BEYOND_A_CLIENT, OUTCOMES
from sidecar.conformance.visit import Check, Look, Visit, counted, uid_of


async def _outcomes(visit: Visit) -> str:
    """FHIR errors come as OperationOutcome (R4 http.html#summary)."""
    bodies = [body for request, body in visit.client.record.refusals if _is_fhir(visit, request)]
    if not bodies:
        raise NotTested("no error of FHIR was met")
    others = sum(not _is_outcome(body) for body in bodies if body)
    if others:
        raise Violated(
            f"{others} of {counted(len(bodies), 'error')} have another body than an OperationOutcome"
        )
    return counted(len(bodies), "error")


def _is_fhir(visit: Visit, request: str) -> bool:
    return (
        request.startswith(f"{visit.base}/ImagingStudy")
        and "%" not in request
        and "\\" not in request
    )


def _is_outcome(body: bytes) -> bool:
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("resourceType") == "OperationOutcome"


async def _error_texts(visit: Visit) -> str:
    """An identifier that the request did not have is in no error."""
    known = {
        visit.patient or "",
        *visit.patient_ids,
        *visit.names,
        *(uid_of(one) or "" for one in visit.studies),
    }
    identifiers = [one for one in known if len(one) > 2]
    refusals = visit.client.record.refusals
    if not refusals:
        raise NotTested("no error was met")
    for request, body in refusals:
        text = body.decode("utf-8", "replace")
        if any(one not in request and _stands_alone(one, text) for one in identifiers):
            raise Violated(
                "an error's text names the patient or a study that the request did not name"
            )
    return f"{counted(len(refusals), 'error')}, none names the patient or a study by itself"


def _stands_alone(identifier: str, text: str) -> bool:
    """Whether ``text`` has the identifier, not as a part of a longer name, number or UID."""
    at = text.find(identifier)
    while at >= 0:
        before, after = (
            text[max(at - 1, 0) : at],
            text[at + len(identifier) : at + len(identifier) + 2],
        )
        longer = (
            _is_word(after[:1]) or after[:1] == "-" or (after[:1] == "." and _is_word(after[1:]))
        )
        if not (longer or _is_word(before) or before in (".", "-")):
            return True
        at = text.find(identifier, at + 1)
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


async def _slow_searches(visit: Visit) -> str:
    return _waited([says_when for images, says_when in visit.client.record.waits if not images])


async def _slow_retrievals(visit: Visit) -> str:
    return _waited([says_when for images, says_when in visit.client.record.waits if images])


def _waited(waits: list[bool]) -> str:
    if not waits:
        raise NotTested("no 503 was met")
    if not all(waits):
        raise Violated("a 503 without Retry-After in seconds")
    return f"{len(waits)} times 503, each with Retry-After in seconds"


async def _caching(visit: Visit) -> str:
    visit.answered()
    if visit.client.record.public:
        raise Violated("an answer to a request with a token has Cache-Control: public")
    return "no answer to a request with a token is for shared caches"


def _beyond(why: str) -> Look:
    async def look(visit: Visit) -> str:
        raise NotTested(why)

    return look


AFTERWARDS = (
    Check(20, "errors are OperationOutcomes", _outcomes, OUTCOMES),
    Check(45, "no identifiers in errors", _error_texts),
    Check(23, "503 while a search takes longer", _slow_searches),
    Check(44, "503 while images are staged", _slow_retrievals),
    Check(54, "shared caches", _caching),
)
ELSE = "what else it demands"
BEYOND = tuple(Check(number, ELSE, _beyond(why)) for number, why in BEYOND_A_CLIENT.items())
"""So that each requirement has its line."""
