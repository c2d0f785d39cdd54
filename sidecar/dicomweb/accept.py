"""The client's Accept header, taken apart (RFC 9110 12.5.1, PS3.18 8.7)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.common.errors import BadRequest
from sidecar.dicomweb.media_type import MediaType, parse_media_type, split_outside_quotes

MAXIMUM_LENGTH = 2_048
MAXIMUM_RANGES = 20

_TRANSFER_SYNTAX = re.compile(r"\*|[0-9.]{1,64}", re.ASCII)
# RFC 9110 12.4.2, and ".2" as Java writes it.
_QUALITY = re.compile(r"0?\.[0-9]{1,3}|0\.?|1(?:\.0{0,3})?", re.ASCII)

DICOM_JSON, PLAIN_JSON, ZIP = "application/dicom+json", "application/json", "application/zip"
JSON_TYPES = frozenset({DICOM_JSON, PLAIN_JSON})


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header, lower-cased; ``parameters`` without ``q``."""

    media_type: str
    parameters: tuple[tuple[str, str], ...] = ()
    quality: str | None = None

    def parameter(self, name: str) -> str | None:
        """Return the value of a parameter, or ``None``."""
        return dict(self.parameters).get(name)

    @property
    def weight(self) -> float:
        """How much the client wants this, from 0 (not at all) to 1 (RFC 9110 12.4.2)."""
        return float(self.quality or 1)

    def __str__(self) -> str:
        return f"{MediaType(self.media_type, self.parameters)}" + (
            f";q={self.quality}" if self.quality else ""
        )


ANYTHING = MediaRange("*/*")


def parse_accept(accept: str) -> list[MediaRange]:
    """Return the media ranges of an Accept header without those that are malformed.

    Raises ``BadRequest`` when all of them are, for a header that is too long, or for too many
    ranges.
    """
    if len(accept) > MAXIMUM_LENGTH:
        raise _malformed()
    elements = [element for element in split_outside_quotes(accept, ",") if element]
    if len(elements) > MAXIMUM_RANGES:
        raise _malformed()
    ranges = [parsed for element in elements if (parsed := _media_range(element)) is not None]
    if elements and not ranges:
        raise _malformed()
    return ranges


def media_ranges(accept: str | None) -> list[MediaRange]:
    """Return the media ranges of a request: no Accept header means any. Raises ``BadRequest``."""
    return parse_accept(accept or "") or [ANYTHING]


def _media_range(element: str) -> MediaRange | None:
    # Java's HttpURLConnection writes "*" for "*/*".
    head, semicolon, rest = element.partition(";")
    try:
        found = parse_media_type("*/*" + semicolon + rest if head.strip() == "*" else element)
    except ValueError:
        return None
    quality = found.parameter("q")
    if quality is not None and not _QUALITY.fullmatch(quality):
        return None
    if not _TRANSFER_SYNTAX.fullmatch(found.parameter("transfer-syntax") or "*"):
        return None
    parameters = tuple((name, value) for name, value in found.parameters if name != "q")
    return MediaRange(
        found.name, parameters, "0" + quality if quality and quality.startswith(".") else quality
    )


def _malformed() -> BadRequest:
    return BadRequest("The Accept header is malformed.", reason="bad_accept")


def accepts_json(accept: str | None, types: frozenset[str] = JSON_TYPES) -> bool:
    """Return whether one of these JSON media types satisfies the Accept header.

    No header accepts everything. Raises ``BadRequest``.
    """
    return accept_json(media_ranges(accept), types)


def accept_json(ranges: Iterable[MediaRange], types: frozenset[str] = JSON_TYPES) -> bool:
    """Return whether one of these JSON media types satisfies the ``ranges``."""
    satisfied = types | {"*/*", "application/*"}
    return any(wanted.weight and wanted.media_type in satisfied for wanted in ranges)
