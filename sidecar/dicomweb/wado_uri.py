"""WADO-URI (PS3.18 chapter 9): an older request for an instance, answered by WADO-RS.

``?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…`` becomes the same value as a WADO-RS path,
and the same decision and the same checks follow.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidecar.access.facts import Part
from sidecar.common.errors import BadRequest
from sidecar.dicom.uid import is_uid
from sidecar.dicomweb.media_types import parse_accept
from sidecar.dicomweb.paths import Kind, Retrieval

# Parameters that change the answer in ways that WADO-RS cannot. To ignore them would be wrong, and
# for "anonymize" a breach.
_UNSUPPORTED = ("anonymize", "presentationUID", "presentationSeriesUID", "region")
_KNOWN = frozenset(
    "requestType studyUID seriesUID objectUID contentType charset transferSyntax frameNumber rows"  # noqa: SIM905
    " columns windowCenter windowWidth imageQuality annotation".split()
).union(_UNSUPPORTED)
_NUMBER = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class WadoUri:
    """A request in the terms of WADO-RS. ``rendering`` are its parameters of PS3.18 8.3.5."""

    retrieval: Retrieval
    accept: str
    rendering: tuple[tuple[str, str], ...]


def parse_wado_uri(parameters: Sequence[tuple[str, str]], accept: str | None) -> WadoUri:
    """Return the request of a query's ``parameters``.

    ``accept`` is the request's Accept header, which counts without ``contentType``. Parameters that
    PS3.18 does not define are ignored. Raises ``BadRequest``.
    """
    values: dict[str, str] = {}
    for name, value in parameters:
        if name in _KNOWN:
            if name in values:
                raise _malformed(name, "is given twice")
            values[name] = value
    if values.get("requestType") != "WADO":
        raise BadRequest("requestType must be WADO.", reason="bad_wado_uri")
    for name in _UNSUPPORTED:
        if values.get(name):
            raise _malformed(name, "is not supported here")
    part = Part(*(_uid(values, name) for name in ("studyUID", "seriesUID", "objectUID")))
    types = values.get("contentType") or ("" if accept in (None, "*/*") else accept) or "image/jpeg"
    first = next(iter(parse_accept(types)), None)
    if first is not None and first.name in ("application/dicom", "application/*"):
        syntax = values.get("transferSyntax") or "*"
        if syntax != "*" and not is_uid(syntax):
            raise _malformed("transferSyntax", "is not a UID")
        return WadoUri(
            Retrieval(Kind.INSTANCE, part), f"application/dicom; transfer-syntax={syntax}", ()
        )
    frames = (int(_matching(values, "frameNumber", _NUMBER)),) if values.get("frameNumber") else ()
    return WadoUri(Retrieval(Kind.RENDERED, part, frames), types, tuple(_rendering(values)))


def _rendering(values: Mapping[str, str]) -> list[tuple[str, str]]:
    rendering = []
    if values.get("rows") or values.get("columns"):
        # A single bound holds for both: the image keeps its aspect ratio (PS3.18 9.4.1.2.1).
        rows, columns = (
            _matching(values, name if values.get(name) else other, _NUMBER)
            for name, other in (("rows", "columns"), ("columns", "rows"))
        )
        rendering.append(("viewport", f"{columns},{rows}"))
    if values.get("windowCenter") or values.get("windowWidth"):
        center, width = (
            _matching(values, name, _DECIMAL) for name in ("windowCenter", "windowWidth")
        )
        rendering.append(("window", f"{center.lstrip('+')},{width.lstrip('+')},linear"))
    renamed = (("imageQuality", "quality"), ("annotation", "annotation"))
    return rendering + [(new, values[name]) for name, new in renamed if values.get(name)]


def _uid(values: Mapping[str, str], name: str) -> str:
    if not is_uid(values.get(name, "")):
        raise _malformed(name, "is missing or not digits and single points, 128 characters at most")
    return values[name]


def _matching(values: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = values.get(name, "")
    if not pattern.fullmatch(value):
        raise _malformed(name, "is missing or malformed")
    return value


def _malformed(name: str, what: str) -> BadRequest:
    return BadRequest(f"The parameter {name} {what}.", reason="bad_wado_uri")
