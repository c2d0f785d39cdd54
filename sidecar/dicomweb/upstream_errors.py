"""The errors that clients get when the archive fails."""

import logging
import re
from typing import Any

from sidecar.common.errors import BadGateway, GatewayTimeout, Problem, Unavailable

log = logging.getLogger(__name__)


UNUSABLE = "The image archive gave an answer that cannot be used."


class QueryRefused(BadGateway):
    """The PACS answers a query with 400, whether its values are ours or a client's."""


class UnknownTexts(BadGateway):
    """The PACS has these rows only with texts that may lack characters."""


class ResourceNotOffered(BadGateway):
    """The PACS does not have this kind of resource (404, 405, 501)."""

    status = 501
    code = "not-supported"

    @classmethod
    def named(cls, kind: str) -> "ResourceNotOffered":
        """Return the error for resources of this ``kind``, a word of paths such as ``series``."""
        diagnostics = f"The image archive does not offer {kind} by DICOMweb."
        return cls(diagnostics, reason="pacs_no_" + kind)


def failed(reason: str, detail: str | None = None) -> Problem:
    """Return the error for a PACS that did not answer. ``detail`` is for operators."""
    if reason == "query_too_many_results":
        log.error("a query has more results than limits.query_results")
    else:
        log.warning("the PACS does not answer", extra={"reason": reason, "detail": detail})
    if reason == "timeout":
        return GatewayTimeout("The image archive took too long to answer.", reason="pacs_timeout")
    if reason == "too_large":
        return unusable("query_too_large")
    if reason.startswith("query_"):
        return unusable(reason)
    if reason == "encoded":
        return unusable("pacs_encoded").because(detail)
    return Unavailable(
        "The image archive cannot be reached now; try again.", reason="pacs_" + reason
    ).because(detail)


def refused(status: int, retry_after: Any) -> Problem:
    """Return the error for an error status of the PACS, without the PACS's text."""
    if status in (429, 503):
        seconds = (
            int(retry_after)
            if isinstance(retry_after, str) and re.fullmatch(r"[0-9]{1,4}", retry_after)
            else 5
        )
        return Unavailable(
            "The image archive is busy; try again.", reason="pacs_busy", retry_after=max(1, seconds)
        )
    if status == 504:
        return failed("timeout")
    log.error("the PACS answered with an error", extra={"upstream_status": status})
    return unusable("pacs_credentials" if status in (401, 403) else "pacs_status").because(
        f"status {status}"
    )


def unusable(reason: str) -> BadGateway:
    """Return the error for an answer that cannot be used."""
    return BadGateway(UNUSABLE, reason=reason)
