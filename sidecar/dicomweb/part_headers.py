"""The header lines of a multipart's part (RFC 2046 5.1)."""

from collections.abc import Iterator
from functools import lru_cache

from sidecar.dicomweb.body_filter import Malformed
from sidecar.dicomweb.media_types import (
    DRAWN,
    may_be_part,
    names_markup,
    parse_media_type,
    split_outside_quotes,
)
from sidecar.dicomweb.paths import Kind
from sidecar.dicomweb.rewrite import our_url

HEADERS_LIMIT_BYTES = 16_384
"""Limit in bytes of a part's header lines."""
# The header fields that pass. Others may reveal the archive and are of no use to a client.
_PASSING = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-location",
        b"content-id",
        b"content-transfer-encoding",
        b"content-description",
        b"mime-version",
    }
)
_ENCODINGS = (b"binary", b"8bit", b"7bit")


@lru_cache(64)
def may_have(content_type: str, kind: Kind) -> bool:
    """Return whether a part of a multipart of this ``kind`` may have this Content-Type.

    It is empty for a part without.
    """
    # By RFC 2046 5.1 a part without a type is text. Archives leave out the requested type.
    if not content_type:
        return kind not in DRAWN
    try:
        media_type = parse_media_type(content_type)
    except ValueError:
        return False
    return may_be_part(media_type.name, kind) and not any(
        names_markup(value) for _, value in media_type.parameters
    )


def read_headers(lines: bytes, kind: Kind, root: str) -> tuple[bytes, int | None]:
    """Return the header lines that pass, and the part's Content-Length in bytes.

    ``kind``: of the multipart. URLs become ours below ``root``. Raises ``Malformed``.
    """
    passing: list[bytes] = []
    length: int | None = None
    content_type = b""
    for name, text, field in _fields(lines):
        line = field
        if name == b"content-type":
            content_type = text
        elif name == b"content-length":
            if not text.isdigit() or len(text) > 15:
                raise Malformed("part_headers")
            length = int(text)
        elif name == b"content-transfer-encoding" and text.lower() not in _ENCODINGS:
            raise Malformed("part_headers")  # A client would decode it into bytes not checked here.
        elif name == b"content-location":
            ours = our_url(text.decode("ascii"), root)
            if ours is None:
                continue
            line = b"Content-Location: " + ours.encode("ascii")
        if name in _PASSING:
            passing.append(line)
    if not may_have(content_type.decode("ascii"), kind):
        raise Malformed("part_type")
    return b"\r\n".join(passing), length


def fit_headers(lines: bytes, size: int) -> bytes:
    """Return the header lines in ``size`` bytes, for a body whose length has been announced.

    Spaces behind a colon mean nothing (RFC 5322 2.2). Lines that are too long lose their
    Content-Location. Raises ``Malformed`` when nothing fits.
    """
    if len(lines) > size:
        lines = b"\r\n".join(
            line for line in lines.split(b"\r\n") if not line.startswith(b"Content-Location: ")
        )
    name, colon, rest = lines.partition(b":")
    if not colon or len(lines) > size:
        raise Malformed("part_headers")
    return name + colon + b" " * (size - len(lines)) + rest


def _fields(lines: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Return name, value and line of each field that is ASCII, the name in lower case.

    A value that is no ASCII is left out: mostly it is a file's name, in an unknown encoding. Raises
    ``Malformed``, also for a length or an encoding that is no ASCII.
    """
    seen: set[bytes] = set()
    for line in lines.split(b"\r\n") if lines else ():
        name, colon, value = line.partition(b":")
        name, text = name.strip().lower(), value.strip()
        is_odd = line[:1] in b" \t" or not name.isascii() or b"\n" in line or b"\r" in line
        if not colon or not name or is_odd or name in seen:
            raise Malformed("part_headers")
        seen.add(name)
        if text.isascii():
            yield name, text, line
        elif name == b"content-type":
            elements = split_outside_quotes(text.decode("latin-1"), ";")
            text = "; ".join(filter(str.isascii, elements)).encode("ascii")
            yield name, text, b"Content-Type: " + text
        elif name in (b"content-length", b"content-transfer-encoding"):
            raise Malformed("part_headers")
