"""The check of the head of a PACS's answer: it must fit the request (SIA-43)."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.common.content_coding import content_coding
from sidecar.common.errors import BadGateway, NotAcceptable, NotFound, Problem
from sidecar.dicomweb.media_types import (
    DOCUMENT_TYPES,
    JSON_TYPES,
    OCTETS,
    MediaType,
    may_be_part,
    names_markup,
    parse_media_type,
)
from sidecar.dicomweb.paths import OBJECTS, Kind
from sidecar.dicomweb.upstream_errors import refused, unusable


class RangeNotSatisfiable(Problem):
    """The resource does not have the requested range (416)."""

    status = 416
    code = "not-found"


log = logging.getLogger(__name__)

# RFC 2046 5.1.1: bchars.
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]", re.ASCII)
_STORED_FORM = (
    " If it cannot bring the image into the transfer syntax that was asked for: ask with"
    " transfer-syntax=* for the stored form."
)
# Media types that a browser runs. Other XML (HL7 CDA) ends with "+xml".
_RUNS = frozenset(
    {"text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml"}
)
_SAFE_CONTENT_TYPE = re.compile(r"[\x20-\x7e]{1,512}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a checked answer.

    ``content_length`` is in bytes; ``boundary`` is ``None`` unless the body is a multipart.
    """

    content_type: str
    media_type: str
    content_length: int | None
    boundary: str | None
    is_partial: bool = False


def check_head(
    status: int, headers: Mapping[str, str], kind: Kind, *, chunked: bool, ranged: bool = False
) -> ResponseHead:
    """Return the answer's head. Raises the ``Problem`` that the client gets instead.

    ``ranged``: the request has a ``Range``. Without it, 206 is a study that is not whole (dcm4chee:
    "objects no longer accessible"), and is refused. So are 3xx, which leads elsewhere, and a body
    whose end cannot be recognized.
    """
    is_partial = ranged and status == 206 and "Content-Range" in headers
    if ranged and status == 416:
        raise RangeNotSatisfiable("The resource has no such range.", reason="pacs_range")
    if status != 200 and not is_partial:
        raise _problem(status, headers, kind)
    if coding := content_coding(headers):
        raise _unusable("encoded", coding)
    type_header = headers.get("Content-Type", "")
    content_type = _content_type(type_header)
    if not _is_expected(content_type, kind) or (
        is_partial and content_type.name.startswith("multipart/")
    ):
        raise _runs_in_browsers() if _runs(content_type) else _unusable("content_type")
    if content_type.name in DOCUMENT_TYPES:
        type_header = content_type.name  # A file's name in a parameter may have the patient's name.
    boundary = _boundary(content_type) if content_type.name == "multipart/related" else None
    if boundary is not None and kind in OBJECTS and not content_type.parameter("type"):
        # RFC 2387 3.1 requires the parameter, and clients look at it.
        type_header += '; type="application/dicom"'
    length = headers.get("Content-Length")
    # The array of metadata shows its end itself.
    if length is None and boundary is None and not chunked and kind is not Kind.METADATA:
        raise _unusable("unknown_length")
    if length is not None and not re.fullmatch(r"[0-9]{1,18}", length):
        raise _unusable("content_length")
    return ResponseHead(
        type_header,
        content_type.name,
        None if length is None else int(length),
        boundary,
        is_partial,
    )


def _content_type(text: str) -> MediaType:
    if not _SAFE_CONTENT_TYPE.fullmatch(text):
        raise _unusable("content_type")
    try:
        return parse_media_type(text)
    except ValueError:
        raise _unusable("content_type") from None


def _problem(status: int, headers: Mapping[str, str], kind: Kind) -> Exception:
    if status == 202:  # The archive is fetching the images from elsewhere (SIA-44).
        return refused(503, headers.get("Retry-After"))
    if status in (204, 404, 410):
        return NotFound(
            "There is no such resource, or it is not available to you.", reason="pacs_absent"
        )
    if status in (400, 406, 415):
        return NotAcceptable(
            "The image archive cannot give this: not in an acceptable form, or there is no such"
            " frame.",
            reason="pacs_accept",
        )
    if 200 < status < 400:
        log.error(
            "the PACS answered a retrieval with something partial or elsewhere",
            extra={"upstream_status": status},
        )
        return _unusable("partial" if status == 206 else "redirect" if status >= 300 else "status")
    problem = refused(status, headers.get("Retry-After"))
    if status in (500, 501) and kind in OBJECTS:
        problem.diagnostics += _STORED_FORM
    return problem


def _is_expected(content_type: MediaType, kind: Kind) -> bool:
    name = content_type.name
    others = [
        value.lower() for parameter, value in content_type.parameters if parameter != "boundary"
    ]
    # A simpler parser than ours would take a boundary from another parameter's quotes.
    if "*" in name or any(names_markup(value) or "boundary" in value for value in others):
        return False
    if kind is Kind.METADATA:
        return name in JSON_TYPES
    if kind in OBJECTS:
        if name == "multipart/related":
            # Without a type here, the Content-Type of each part is checked.
            return _part_type(content_type) in ("application/dicom", "")
        return kind is Kind.INSTANCE and name == "application/dicom"
    if name == "application/pdf" and kind is Kind.THUMBNAIL:
        return True
    if name == "multipart/related":
        return kind is not Kind.THUMBNAIL and may_be_part(_part_type(content_type) or OCTETS, kind)
    return may_be_part(name, kind)


def unwrapped_type(head: ResponseHead, kind: Kind) -> str:
    """Return the media type of a multipart's only part, sent without the multipart."""
    if kind in OBJECTS:
        return "application/dicom"
    part_type = _part_type(parse_media_type(head.content_type))
    return part_type if part_type in DOCUMENT_TYPES else OCTETS


def _runs(content_type: MediaType) -> bool:
    """Return whether a browser would run this media type, or that of its parts."""
    types = (content_type.name, _part_type(content_type))
    return any(name in _RUNS or name.endswith("+xml") for name in types)


def _runs_in_browsers() -> Problem:
    log.error(
        "the PACS's answer is of a type that a browser would run", extra={"reason": "content_type"}
    )
    return BadGateway(
        "The image archive has this as HTML, SVG or other XML, which a browser would run; it is not"
        " passed on. The whole instance can be had as application/dicom.",
        reason="pacs_content_type",
    )


def _part_type(content_type: MediaType) -> str:
    # Orthanc 1.10 writes the transfer syntax into the value:
    # type="application/octet-stream; transfer-syntax=1.2…".
    return (content_type.parameter("type") or "").partition(";")[0].strip().lower()


def _boundary(content_type: MediaType) -> str:
    boundary = content_type.parameter("boundary") or ""
    if not _BOUNDARY.fullmatch(boundary):
        raise _unusable("boundary")
    return boundary


def _unusable(reason: str, detail: str | None = None) -> Problem:
    log.error("the PACS's answer cannot be used", extra={"reason": reason, "detail": detail})
    return unusable("pacs_" + reason).because(detail)
