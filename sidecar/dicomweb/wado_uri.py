"""WADO-URI (PS3.18 chapter 9): an older way to ask for one instance, answered by WADO-RS.

``?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…`` becomes the same value that a WADO-RS path
becomes; from there on nothing differs: the same decision, the same checks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidecar.access.facts import Part
from sidecar.common.errors import BadRequest
from sidecar.dicom.uid import is_uid
from sidecar.dicomweb.media_types import parse_accept
from sidecar.dicomweb.paths import Kind, Retrieval

# What would change the answer in ways that WADO-RS cannot; to leave it out in silence would be
# wrong, and with "anonymize" a breach.
_UNSUPPORTED = ("anonymize", "presentationUID", "presentationSeriesUID", "region")
_KNOWN = frozenset(
    "requestType studyUID seriesUID objectUID contentType charset transferSyntax frameNumber rows"  # noqa: SIM905
    " columns windowCenter windowWidth imageQuality annotation".split()
).union(_UNSUPPORTED)
_NUMBER = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class WadoUri:
    """The request as WADO-RS: its Accept header, and rendering parameters (PS3.18 8.3.5)."""

    retrieval: Retrieval
    accept: str
    rendering: tuple[tuple[str, str], ...]


def parse_wado_uri(parameters: Sequence[tuple[str, str]], accept: str | None) -> WadoUri:
    """Return what the query's ``parameters`` ask for.

    ``accept`` is the request's header, for want of ``contentType``. Parameters that PS3.18 does not
    have are ignored. Raises ``BadRequest``.
    """
    given: dict[str, str] = {}
    for name, value in parameters:
        if name in _KNOWN:
            if name in given:
                raise _malformed(name, "is given twice")
            given[name] = value
    if given.get("requestType") != "WADO":
        raise BadRequest("requestType must be WADO.", reason="bad_wado_uri")
    for name in _UNSUPPORTED:
        if given.get(name):
            raise _malformed(name, "is not supported here")
    part = Part(*(_uid(given, name) for name in ("studyUID", "seriesUID", "objectUID")))
    types = given.get("contentType") or ("" if accept in (None, "*/*") else accept) or "image/jpeg"
    first = next(iter(parse_accept(types)), None)
    if first is not None and first.media_type in ("application/dicom", "application/*"):
        syntax = given.get("transferSyntax") or "*"
        if syntax != "*" and not is_uid(syntax):
            raise _malformed("transferSyntax", "is not a UID")
        return WadoUri(
            Retrieval(Kind.INSTANCE, part), f"application/dicom; transfer-syntax={syntax}", ()
        )
    frames = (int(_matching(given, "frameNumber", _NUMBER)),) if given.get("frameNumber") else ()
    return WadoUri(Retrieval(Kind.RENDERED, part, frames), types, tuple(_rendering(given)))


def _rendering(given: Mapping[str, str]) -> list[tuple[str, str]]:
    found = []
    if given.get("rows") or given.get("columns"):
        # One alone bounds both: the image keeps its aspect (PS3.18 9.4.1.2.1).
        rows, columns = (
            _matching(given, name if given.get(name) else other, _NUMBER)
            for name, other in (("rows", "columns"), ("columns", "rows"))
        )
        found.append(("viewport", f"{columns},{rows}"))
    if given.get("windowCenter") or given.get("windowWidth"):
        center, width = (
            _matching(given, name, _DECIMAL) for name in ("windowCenter", "windowWidth")
        )
        found.append(("window", f"{center.lstrip('+')},{width.lstrip('+')},linear"))
    named = (("imageQuality", "quality"), ("annotation", "annotation"))
    return found + [(ours, given[name]) for name, ours in named if given.get(name)]


def _uid(given: Mapping[str, str], name: str) -> str:
    if not is_uid(given.get(name, "")):
        raise _malformed(name, "is missing or not digits and single points, 128 characters at most")
    return given[name]


def _matching(given: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = given.get(name, "")
    if not pattern.fullmatch(value):
        raise _malformed(name, "is missing or malformed")
    return value


def _malformed(name: str, what: str) -> BadRequest:
    return BadRequest(f"The parameter {name} {what}.", reason="bad_wado_uri")
