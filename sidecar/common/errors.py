"""Failures that have an answer: each knows its HTTP status and a text that is safe to show to anyone.

``web`` turns them into OperationOutcomes. A text here never carries a token, a URL of an upstream,
a patient's identifier or a name (docs/decisions/0019-name-nobody-in-operations.md).
"""

from typing import Self


class Problem(Exception):
    """A failure with an outside face.

    ``diagnostics`` is shown to the client; ``reason`` is a short constant for logs and metrics;
    ``retry_after`` is in seconds; ``code`` is a FHIR R4 issue type
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
        """A constant that says more to operators; not shown to clients."""

    def for_operators(self) -> str:
        """The reason, with its detail when there is one."""
        return f"{self.reason} ({self.detail})" if self.detail else self.reason

    def because(self, detail: str | None) -> Self:
        """The same, with the ``detail`` for operators."""
        self.detail = detail
        return self


class BadRequest(Problem):
    """The request is wrong in itself: 400."""

    status = 400
    code = "invalid"


class NotSupported(BadRequest):
    """The request asks for a search feature that this server does not have: 400."""

    code = "not-supported"


class Forbidden(Problem):
    """Refused for what was found out after the decision on the token: 403."""

    status = 403
    code = "forbidden"


class NotFound(Problem):
    """Not there, or not the caller's: 404 (SIA-45: which of both is never said)."""

    status = 404
    code = "not-found"


class NotAcceptable(Problem):
    """None of the media types that the client accepts can be had: 406."""

    status = 406
    code = "not-supported"


class BadGateway(Problem):
    """The PACS or the EHR answered something that cannot be used: 502."""

    status = 502


class Unavailable(Problem):
    """Not now: 503, with ``Retry-After`` in seconds."""

    status = 503
    code = "transient"

    def __init__(self, diagnostics: str, *, reason: str, retry_after: int = 5) -> None:
        super().__init__(diagnostics, reason=reason, retry_after=retry_after)


class GatewayTimeout(Problem):
    """The PACS took longer than ``pacs.warm_seconds``, or ``pacs.timeout_seconds`` without patience: 504."""

    status = 504
    code = "timeout"
