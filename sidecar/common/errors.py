"""Failures with an HTTP status and a text that is safe to show to anyone.

``web`` turns them into OperationOutcomes. Texts are made without tokens, upstream URLs, and
identifiers or names of patients (docs/decisions/0019-name-nobody-in-operations.md).
"""

from typing import Self


class Problem(Exception):
    """A failure that has a response.

    ``diagnostics`` is shown to the client. ``reason`` is a short constant for logs and metrics.
    ``retry_after`` is in seconds. ``code`` is a FHIR R4 issue type
    (https://hl7.org/fhir/R4/valueset-issue-type.html).
    """

    status = 500
    code = "exception"

    def __init__(self, diagnostics: str, *, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.diagnostics = diagnostics
        self.reason = reason
        self.retry_after = retry_after
        self.detail: str | None = None
        """A constant with more detail for operators, which clients do not get."""

    def for_operators(self) -> str:
        """Return the reason, with its detail if there is one."""
        return f"{self.reason} ({self.detail})" if self.detail else self.reason

    def because(self, detail: str | None) -> Self:
        """Set the ``detail`` for operators, and return the failure."""
        self.detail = detail
        return self


class BadRequest(Problem):
    """400: the request is wrong in itself."""

    status = 400
    code = "invalid"


class NotSupported(BadRequest):
    """400: the request asks for a search feature that this server does not have."""

    code = "not-supported"


class Ignorable(NotSupported):
    """400 where the client prefers ``handling=strict``; else the parameter is ignored and named.

    ``widens``: without it the answer may have more than was asked for.
    """

    def __init__(self, diagnostics: str, *, reason: str, widens: bool = False) -> None:
        super().__init__(diagnostics, reason=reason)
        self.widens = widens


class Forbidden(Problem):
    """403: refused for a fact that was read after the decision on the token."""

    status = 403
    code = "forbidden"


class NotFound(Problem):
    """404: absent, or not the caller's (SIA-45: the response does not show which)."""

    status = 404
    code = "not-found"


class NotAcceptable(Problem):
    """406: none of the media types that the client accepts is available."""

    status = 406
    code = "not-supported"


class UnsupportedMediaType(Problem):
    """415: the body of the request has another media type than the resource takes."""

    status = 415
    code = "not-supported"


class BadGateway(Problem):
    """502: the response of the PACS or the EHR cannot be used."""

    status = 502


class Unavailable(Problem):
    """503: not now. ``Retry-After`` has the seconds until the next try."""

    status = 503
    code = "transient"

    def __init__(self, diagnostics: str, *, reason: str, retry_after: int = 5) -> None:
        super().__init__(diagnostics, reason=reason, retry_after=retry_after)


class GatewayTimeout(Problem):
    """504: the PACS took longer than ``limits.deferred_seconds``.

    Without ``limits.defer_after_seconds`` the limit is ``limits.pacs_timeout_seconds``.
    """

    status = 504
    code = "timeout"
