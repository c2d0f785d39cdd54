"""Is the head of a PACS's answer what was asked for? Anything else never reaches the client as a success (SIA-43)."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.common.errors import BadGateway, NotAcceptable, NotFound, Problem
from sidecar.pacs.client import refused
from sidecar.pacs.media import JSON_TYPES
from sidecar.pacs.resources import OBJECTS, Kind

log = logging.getLogger(__name__)

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"\r\n]{1,70})"|([^\s;",]{1,70}))', re.IGNORECASE | re.ASCII)
# RFC 2046 5.1.1: bchars.
_BOUNDARY_CHARACTERS = re.compile(r"[A-Za-z0-9'()+_,./:=? -]*[A-Za-z0-9'()+_,./:=?-]", re.ASCII)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+", re.ASCII)
_SAFE_CONTENT_TYPE = re.compile(r"[\x20-\x7e]{1,512}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a good answer before its body: ``content_length`` in bytes, ``boundary`` of a multipart."""

    content_type: str
    media_type: str
    content_length: int | None
    boundary: str | None


def check_head(status: int, headers: Mapping[str, str], kind: Kind, *, chunked: bool) -> Head:
    """Return the answer's head. Raises the ``Problem`` that the client gets instead.

    206 is a part that was not asked for (dcm4chee: "objects no longer accessible"); 3xx leads elsewhere; both would be
    a study that is not whole. A body whose end cannot be recognized is refused, too.
    """
    if status != 200:
        raise _problem(status, headers)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _unusable("encoded")
    content_type = headers.get("Content-Type", "")
    media_type = content_type.split(";", 1)[0].strip().lower()
    if not _SAFE_CONTENT_TYPE.fullmatch(content_type) or not _MEDIA_TYPE.fullmatch(media_type):
        raise _unusable("content_type")
    if not _is_expected(media_type, content_type, kind):
        raise _unusable("content_type")
    boundary = _boundary(content_type) if media_type == "multipart/related" else None
    length = headers.get("Content-Length")
    if length is None and boundary is None and not chunked:
        raise _unusable("unknown_length")
    if length is not None and not re.fullmatch(r"[0-9]{1,18}", length):
        raise _unusable("content_length")
    return Head(content_type, media_type, None if length is None else int(length), boundary)


def _problem(status: int, headers: Mapping[str, str]) -> Exception:
    if status in (204, 404, 410):
        return NotFound("There is no such resource, or it is not available to you.", reason="pacs_absent")
    if status in (400, 406, 415):
        return NotAcceptable("The image archive cannot give this resource in an acceptable form.", reason="pacs_accept")
    if 200 < status < 400:
        log.error(
            "the PACS answered a retrieval with something partial or elsewhere", extra={"upstream_status": status}
        )
        return _unusable("partial" if status == 206 else "redirect" if status >= 300 else "status")
    return refused(status, headers.get("Retry-After"))


def _is_expected(media_type: str, content_type: str, kind: Kind) -> bool:
    if kind is Kind.METADATA:
        return media_type in JSON_TYPES
    if kind in OBJECTS:
        if media_type == "multipart/related":
            return "application/dicom" in content_type and "+xml" not in content_type and "+json" not in content_type
        return kind is Kind.INSTANCE and media_type == "application/dicom"
    if "svg" in content_type:
        return False
    image = media_type.startswith(("image/", "video/"))
    if kind in (Kind.RENDERED, Kind.THUMBNAIL):
        return image or media_type == "application/pdf"
    return image or media_type in ("multipart/related", "application/octet-stream")


def _boundary(content_type: str) -> str:
    match = _BOUNDARY.search(content_type)
    boundary = (match[1] or match[2]) if match else ""
    if not _BOUNDARY_CHARACTERS.fullmatch(boundary):
        raise _unusable("boundary")
    return boundary


def _unusable(reason: str) -> Problem:
    log.error("the PACS's answer cannot be used", extra={"reason": reason})
    return BadGateway("The image archive gave an answer that cannot be used.", reason="pacs_" + reason)
