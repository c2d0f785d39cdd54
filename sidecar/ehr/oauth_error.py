"""The codes by which an OAuth server says why it refuses us."""

from sidecar.common.fetch import SMALL_BYTES, FetchedResponse, FetchFailed

CODES = frozenset(
    {
        "access_denied",
        "insufficient_scope",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_token",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_token_type",
    }
)
"""Those of RFC 6749 4.1.2.1 and 5.2, RFC 6750 3.1 and RFC 7009 2.2.1."""


def status_and_error(answer: FetchedResponse) -> str:
    """Return ``status 401``, or ``status 401, invalid_client`` where the server gives its reason.

    It stands in ``error`` of the body (RFC 6749 5.2), or in ``WWW-Authenticate`` (RFC 6750 3). A
    code that is none of ``CODES`` is not passed on, and no description is: they are free text.
    """
    code = _in_body(answer) or _in_challenge(answer)
    return f"status {answer.status}" + (f", {code}" if code else "")


def _in_body(answer: FetchedResponse) -> str | None:
    try:
        error = answer.strict_json_object().get("error") if len(answer.body) <= SMALL_BYTES else ""
    except FetchFailed:
        return None
    return error if isinstance(error, str) and error in CODES else None


def _in_challenge(answer: FetchedResponse) -> str | None:
    challenges = " ".join(answer.headers.getall("WWW-Authenticate", ()))
    return next((code for code in sorted(CODES) if f'error="{code}"' in challenges), None)
