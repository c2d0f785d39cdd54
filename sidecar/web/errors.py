"""Failures -> HTTP answers: an OperationOutcome for each, safe to show (RFC 6750 for the token ones)."""

from typing import Any

import orjson
from aiohttp import web

from sidecar.access.reasons import INVALID_TOKEN, STATUS, Reason
from sidecar.common.errors import Problem
from sidecar.fhir.outcome import operation_outcome

FHIR_JSON = "application/fhir+json"

_TEXT: dict[Reason, str] = {
    Reason.MISSING_TOKEN: "An access token is needed: Authorization: Bearer …",
    Reason.MALFORMED_TOKEN: "The Authorization header must be exactly one Bearer token.",
    **dict.fromkeys(INVALID_TOKEN, "The access token is not active; log in again."),
    Reason.APP_LAUNCH_OFF: "This server does not serve apps that patients or clinicians launch.",
    Reason.INSUFFICIENT_SCOPE: "The access token has no scope for this; ask for patient/ImagingStudy.rs.",
    Reason.CONSTRAINED_SCOPE: "The token's ImagingStudy scopes have constraints that this server cannot evaluate; "
    "ask for patient/ImagingStudy.rs.",
    Reason.NO_PATIENT_CONTEXT: "The access token is for no patient; launch with patient context (launch/patient).",
    Reason.OTHER_PATIENT: "The access token is for another patient.",
    Reason.NO_PATIENT_NAMED: "Name one patient: patient=<id> in a search, Patient/<id>/$wado-rs for images.",
    Reason.UNKNOWN_CLIENT: "This server has no permissions for this client; ask its operators.",
    Reason.NOT_THE_CLIENTS_PATIENT: "This client has no permission for this patient.",
    Reason.EXPIRED_CAPABILITY: "This address is no longer good; search for the study again.",
    Reason.UNKNOWN_CAPABILITY: "This address is none that this server gives; search for the study again.",
    Reason.OTHER_TOKEN: "This address needs the access token with which it was found.",
    Reason.NOT_IN_CAPABILITY: "This address is not for this operation.",
    Reason.PARTLY_EXCLUDED: "Not all of this study may be retrieved; ask for its series one by one.",
}
_NOT_FOUND = "There is no such resource, or it is not available to you."
_CODE = {401: "login", 403: "forbidden", 404: "not-found"}

MAXIMUM_SERIES = 100
"""So many are named in an answer."""

_MALFORMED = {
    414: ("too-long", "The URL is too long."),
    417: ("invalid", "This server meets no expectation but 100-continue."),
    431: ("too-long", "A header of the request is too long."),
    500: ("exception", "An internal error occurred."),
}


def json_response(
    body: dict[str, Any],
    *,
    status: int = 200,
    content_type: str = FHIR_JSON,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        body=orjson.dumps(body),
        status=status,
        content_type=content_type,
        charset="utf-8",
        headers=headers,
    )


def denial(reason: Reason, realm: str, series: frozenset[str] = frozenset()) -> web.Response:
    """The answer for a refused request.

    ``series``: SeriesInstanceUIDs that the caller may have instead.
    """
    status = STATUS[reason]
    headers = {}
    if status == 401:
        # RFC 6750 3.1: no error code when no credentials came at all.
        error = "" if reason is Reason.MISSING_TOKEN else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="{realm}"{error}'
    elif reason in (Reason.INSUFFICIENT_SCOPE, Reason.CONSTRAINED_SCOPE):
        headers["WWW-Authenticate"] = (
            f'Bearer realm="{realm}", error="insufficient_scope", scope="patient/ImagingStudy.rs"'
        )
    text = _TEXT.get(reason, _NOT_FOUND)
    if series:
        text += " These may be: " + ", ".join(sorted(series)[:MAXIMUM_SERIES])
        text += ", …" if len(series) > MAXIMUM_SERIES else ""
    outcome = operation_outcome(_CODE[status], text)
    return json_response(outcome, status=status, headers=headers)


def problem(error: Problem) -> web.Response:
    """The answer for a ``Problem``. Every 404 is the same one, whatever was not found."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    text = _NOT_FOUND if error.status == 404 else error.diagnostics
    return json_response(operation_outcome(error.code, text), status=error.status, headers=headers)


def http_error(error: web.HTTPException) -> web.Response:
    """The answer for what aiohttp itself refused (method, size, …)."""
    if error.status == 404:
        return json_response(operation_outcome("not-found", _NOT_FOUND), status=404)
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    codes = {405: "not-supported", 413: "too-long"}
    outcome = operation_outcome(codes.get(error.status, "invalid"), f"{error.reason}.")
    return json_response(outcome, status=error.status, headers=headers)


def malformed(status: int) -> web.Response:
    """The answer for bytes that are no request, or a request too large to read."""
    code, text = _MALFORMED.get(status, ("invalid", "The request is not well-formed HTTP."))
    response = json_response(operation_outcome(code, text), status=status)
    response.headers["Server"] = "smart-imaging-sidecar"
    return response


def unexpected_body(*, is_coded: bool) -> web.Response:
    """Return the answer for a request with a body that its method does not need.

    ``is_coded``: the end of the body is in doubt because of its Transfer-Encoding.
    """
    text = "A request of this method must come without a body."
    if is_coded:
        text = "Transfer-Encoding may be chunked alone, and in HTTP/1.1."
    response = json_response(operation_outcome("invalid", text), status=400)
    response.headers["Server"] = "smart-imaging-sidecar"
    return response


def internal_error() -> web.Response:
    """The answer for a fault of our own."""
    return json_response(operation_outcome("exception", "An internal error occurred."), status=500)
