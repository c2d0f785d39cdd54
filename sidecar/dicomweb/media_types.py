"""Media types (RFC 9110 8.3.1), the Accept header, and what a retrieval may have (PS3.18 8.7).

Headers are parsed in linear time.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from sidecar.common.errors import BadRequest
from sidecar.dicomweb.paths import OBJECTS, Kind

MAXIMUM_LENGTH = 2_048
MAXIMUM_RANGES = 20

_TRANSFER_SYNTAX = re.compile(r"\*|[0-9.]{1,64}", re.ASCII)
# RFC 9110 12.4.2, and ".2" as Java writes it.
_QUALITY = re.compile(r"0?\.[0-9]{1,3}|0\.?|1(?:\.0{0,3})?", re.ASCII)

DICOM_JSON, PLAIN_JSON, ZIP = "application/dicom+json", "application/json", "application/zip"
JSON_TYPES = frozenset({DICOM_JSON, PLAIN_JSON})
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_NAME = re.compile(rf"({_TOKEN})/({_TOKEN})", re.ASCII)
# Clients and archives write type=application/dicom without quotes; "/" is no token character.
_PARAMETER = re.compile(
    rf"({_TOKEN})[ \t]*=[ \t]*(?:\"([ !#-\[\]-~]*)\"|([A-Za-z0-9!#$%&'*+.^_`|~/()?:@=-]+))",
    re.ASCII,
)
_NEEDS_QUOTES = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]|^$", re.ASCII)
# Up to the separator, with quoted strings whole. Possessive quantifiers never backtrack.
_UNTIL = {
    ",": re.compile(r'(?:[^",]++|"[^"]*+"?+)*+'),
    ";": re.compile(r'(?:[^";]++|"[^"]*+"?+)*+'),
}

DRAWN = frozenset({Kind.RENDERED, Kind.THUMBNAIL})
DRAWN_TYPES = frozenset(
    "image/* image/jpeg image/png image/gif image/jp2 video/* video/mp4 video/mpeg video/h265"  # noqa: SIM905
    " application/pdf".split()
)
# The types of frames and bulk data, with the older names that archives still write. The list has no
# type that a browser would run (SVG, other XML).
_PIXEL_TYPES = frozenset(
    "image/dicom-rle image/gif image/jls image/jp2 image/jpeg image/jph image/jphc image/jpx"  # noqa: SIM905
    " image/jxl image/png image/tiff image/x-dicom-rle image/x-jls video/h264 video/h265 video/mp4"
    " video/mpeg video/mpeg2 video/mpeg4 video/quicktime".split()
)
_PIXEL_RANGES = frozenset({"image/*", "video/*"})
DOCUMENT_TYPES = ("application/pdf", "model/stl", "model/obj", "model/mtl")
"""Media types of encapsulated documents that pass (PS3.3 C.24.2): no browser runs them.

HTML and XML (CDA) do not pass.
"""
DICOM, OCTETS = "application/dicom", "application/octet-stream"


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type: ``name`` such as ``image/png``, and ``parameters``, names in lower case."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str | None:
        """Return the value of a parameter, or ``None``."""
        return dict(self.parameters).get(name)

    def __str__(self) -> str:
        return self.name + "".join(f"; {name}={_quoted(value)}" for name, value in self.parameters)


def _quoted(value: str) -> str:
    return f'"{value}"' if _NEEDS_QUOTES.search(value) else value


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Return the elements between ``,`` or ``;`` outside of quoted strings, without outer space."""
    elements, position = [], 0
    while position <= len(text):
        match = _UNTIL[separator].match(text, position)
        end = match.end() if match else len(text)
        elements.append(text[position:end].strip(" \t"))
        position = end + 1
    return elements


def parse_media_type(text: str) -> MediaType:
    """Return the media type (or range, such as ``image/*``) of a text.

    Raises ``ValueError`` for any other text, also for a parameter that stands twice.
    """
    name, *rest = split_outside_quotes(text, ";")
    if not _NAME.fullmatch(name):
        raise ValueError("not a media type")
    parameters: dict[str, str] = {}
    for element in rest:
        if not element:
            continue
        match = _PARAMETER.fullmatch(element)
        if match is None or match[1].lower() in parameters:
            raise ValueError("not a parameter, or one that stands twice")
        parameters[match[1].lower()] = match[3] if match[2] is None else match[2]
    return MediaType(name.lower(), tuple(parameters.items()))


@dataclass(frozen=True, slots=True)
class MediaRange(MediaType):
    """An element of an Accept header, in lower case. ``parameters`` has no ``q``."""

    quality: str | None = None

    @property
    def weight(self) -> float:
        """The weight of the range, from 0 (not acceptable) to 1 (RFC 9110 12.4.2)."""
        return float(self.quality or 1)

    def __str__(self) -> str:
        return MediaType.__str__(self) + (f";q={self.quality}" if self.quality else "")


ANYTHING = MediaRange("*/*")


@lru_cache(maxsize=64)
def parse_accept(accept: str) -> tuple[MediaRange, ...]:
    """Return the media ranges of an Accept header without the malformed ones.

    They are remembered, for an app sends the same header each time. Raises ``BadRequest`` when all
    are malformed, for a header that is too long, or for too many ranges.
    """
    if len(accept) > MAXIMUM_LENGTH:
        raise _malformed()
    elements = [element for element in split_outside_quotes(accept, ",") if element]
    if len(elements) > MAXIMUM_RANGES:
        raise _malformed()
    parsed = map(_media_range, elements)
    ranges = tuple(media_range for media_range in parsed if media_range is not None)
    if elements and not ranges:
        raise _malformed()
    return ranges


def media_ranges(accept: str | None) -> tuple[MediaRange, ...]:
    """Return the media ranges of a request, any for no Accept header. Raises ``BadRequest``."""
    return parse_accept(accept or "") or (ANYTHING,)


def _media_range(element: str) -> MediaRange | None:
    # Java's HttpURLConnection writes "*" for "*/*".
    head, semicolon, rest = element.partition(";")
    try:
        parsed = parse_media_type("*/*" + semicolon + rest if head.strip() == "*" else element)
    except ValueError:
        return None
    quality = parsed.parameter("q")
    if quality is not None and not _QUALITY.fullmatch(quality):
        return None
    if not _TRANSFER_SYNTAX.fullmatch(parsed.parameter("transfer-syntax") or "*"):
        return None
    parameters = tuple((name, value) for name, value in parsed.parameters if name != "q")
    return MediaRange(
        parsed.name, parameters, "0" + quality if quality and quality.startswith(".") else quality
    )


def _malformed() -> BadRequest:
    return BadRequest("The Accept header is malformed.", reason="bad_accept")


def accepts_json(accept: str | None, types: frozenset[str] = JSON_TYPES) -> bool:
    """Return whether one of these JSON media types satisfies the Accept header.

    Without a header everything is acceptable. Raises ``BadRequest``.
    """
    return accept_json(media_ranges(accept), types)


def accept_json(ranges: Iterable[MediaRange], types: frozenset[str] = JSON_TYPES) -> bool:
    """Return whether one of these JSON media types satisfies the ``ranges``."""
    satisfied = types | {"*/*", "application/*"}
    return any(element.weight and element.name in satisfied for element in ranges)


def may_be_part(media_type: str, kind: Kind) -> bool:
    """Return whether a part of an answer of this kind may have this media type.

    ``media_type`` is in lower case, without parameters.
    """
    if kind in OBJECTS:
        return media_type == DICOM
    if media_type in DOCUMENT_TYPES:
        return kind is Kind.BULKDATA or (kind is Kind.RENDERED and media_type == "application/pdf")
    return media_type in _PIXEL_TYPES or (media_type == OCTETS and kind not in DRAWN)


def may_be_asked_for(media_type: str, kind: Kind) -> bool:
    """Return whether a client may ask for such a part, by a media type or a range of types."""
    return may_be_part(media_type, kind) or (kind not in OBJECTS and media_type in _PIXEL_RANGES)


def names_markup(value: str) -> bool:
    """Return whether a parameter names HTML, SVG or other XML.

    A lax reader could take the parameter for the media type.
    """
    return any(word in value.lower() for word in ("html", "xml", "svg"))
