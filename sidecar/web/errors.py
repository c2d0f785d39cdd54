"""Turn failures into HTTP answers: each has an OperationOutcome that is safe to show.

Refused tokens follow RFC 6750.
"""

from typing import Any

import orjson
from aiohttp import web

from sidecar.access.reasons import INVALID_TOKEN, STATUS, Reason
from sidecar.common.errors import Problem
from sidecar.fhir.outcome import operation_outcome

FHIR_JSON = "application/fhir+json"
REALM = "SMART Imaging Access"
"""Realm of the WWW-Authenticate headers."""

_TEXT: dict[Reason, str] = {
    Reason.MISSING_TOKEN: "An access token is needed: Authorization: Bearer …",
    Reason.MALFORMED_TOKEN: "The Authorization header must be exactly one Bearer token.",
    **dict.fromkeys(INVALID_TOKEN, "The access token is not active; log in again."),
    Reason.APP_LAUNCH_OFF: "This server does not serve apps that patients or clinicians launch.",
    Reason.INSUFFICIENT_SCOPE: (
        "The access token has no scope for this; ask for patient/ImagingStudy.rs."
    ),
    Reason.CONSTRAINED_SCOPE: (
        "The token's ImagingStudy scopes have constraints that this server cannot evaluate; "
        "ask for patient/ImagingStudy.rs."
    ),
    Reason.NO_PATIENT_CONTEXT: (
        "The access token is for no patient; launch with patient context (launch/patient)."
    ),
    Reason.OTHER_PATIENT: "The access token is for another patient.",
    Reason.NO_PATIENT_NAMED: (
        "Name one patient: patient=<id> in a search, Patient/<id>/$wado-rs for images."
    ),
    Reason.UNKNOWN_CLIENT: "This server has no permissions for this client; ask its operators.",
    Reason.NOT_THE_CLIENTS_PATIENT: "This client has no permission for this patient.",
    Reason.EXPIRED_CAPABILITY: "This address is no longer good; search for the study again.",
    Reason.UNKNOWN_CAPABILITY: (
        "This address is none that this server gives; search for the study again."
    ),
    Reason.OTHER_TOKEN: "This address needs the access token with which it was found.",
    Reason.NOT_IN_CAPABILITY: "This address is not for this operation.",
    Reason.PARTLY_EXCLUDED: (
        "Not all of this study may be retrieved; ask for its series one by one."
    ),
}
_NOT_FOUND = "There is no such resource, or it is not available to you."
_CODE = {401: "login", 403: "forbidden", 404: "not-found"}

MAXIMUM_SERIES = 100
"""Limit of the series that one answer names."""

_MALFORMED = {
    414: ("too-long", "The URL is too long."),
    417: ("invalid", "This server meets no expectation but 100-continue."),
    431: ("too-long", "A header of the request is too long."),
    500: ("exception", "An internal error occurred."),
}
_SERVER = {"Server": "smart-imaging-sidecar"}
"""Header of answers to requests that no application sees: an application adds it to its own."""


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


def _outcome(
    status: int, code: str, text: str, headers: dict[str, str] | None = None
) -> web.Response:
    return json_response(operation_outcome(code, text), status=status, headers=headers)


def denial(reason: Reason, series: frozenset[str] = frozenset()) -> web.Response:
    """Return the answer to a refused request.

    ``series``: SeriesInstanceUIDs that the caller may have instead.
    """
    status = STATUS[reason]
    headers = {}
    if status == 401:
        # RFC 6750 3.1: no error code when no credentials came at all.
        error = "" if reason is Reason.MISSING_TOKEN else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="{REALM}"{error}'
    elif reason in (Reason.INSUFFICIENT_SCOPE, Reason.CONSTRAINED_SCOPE):
        headers["WWW-Authenticate"] = (
            f'Bearer realm="{REALM}", error="insufficient_scope", scope="patient/ImagingStudy.rs"'
        )
    text = _TEXT.get(reason, _NOT_FOUND)
    if series:
        text += " These may be: " + ", ".join(sorted(series)[:MAXIMUM_SERIES])
        text += ", …" if len(series) > MAXIMUM_SERIES else ""
    return _outcome(status, _CODE[status], text, headers)


def problem(error: Problem) -> web.Response:
    """Return the answer for a ``Problem``. Every 404 is the same, whatever was not found."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    text = _NOT_FOUND if error.status == 404 else error.diagnostics
    return _outcome(error.status, error.code, text, headers)


def http_error(error: web.HTTPException) -> web.Response:
    """Return the answer for what aiohttp itself refused (method, size, …)."""
    if error.status == 404:
        return _outcome(404, "not-found", _NOT_FOUND)
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = {405: "not-supported", 413: "too-long"}.get(error.status, "invalid")
    return _outcome(error.status, code, f"{error.reason}.", headers)


def malformed(status: int) -> web.Response:
    """Return the answer for bytes that are no request, or for a request too large to read."""
    code, text = _MALFORMED.get(status, ("invalid", "The request is not well-formed HTTP."))
    return _outcome(status, code, text, _SERVER)


def unexpected_body(*, is_coded: bool) -> web.Response:
    """Return the answer for a request with a body that its method does not need.

    ``is_coded``: the end of the body is unclear because of its Transfer-Encoding.
    """
    text = "A request of this method must come without a body."
    if is_coded:
        text = "Transfer-Encoding may be chunked alone, and in HTTP/1.1."
    return _outcome(400, "invalid", text, _SERVER)


def internal_error() -> web.Response:
    """Return the answer for a fault of our own."""
    return _outcome(500, *_MALFORMED[500])
