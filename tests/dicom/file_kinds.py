"""Files of each kind in tests/tables/file_kinds.py, and what they are made of."""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.dicom.encodings import (
    CT,
    EXPLICIT,
    IMPLICIT,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    explicit,
    implicit,
    item,
)

OWN, EVIL = "p1", "EVIL"
BIG, DEFLATED, JPEG = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
GE = "1.2.840.113619.5.2"
ROOT = "1.2.826.0.1.3680043.8.498.14"
PATIENT_NAME, PATIENT_ID, ISSUER = 0x0010_0010, 0x0010_0020, 0x0010_0021
STUDY, SERIES, PIXEL_DATA = 0x0020_000D, 0x0020_000E, 0x7FE0_0010
NUMBERS = {
    0x0028_0002: 1,
    0x0028_0010: 4,
    0x0028_0011: 4,
    0x0028_0100: 8,
    0x0028_0101: 8,
    0x0028_0102: 7,
    0x0028_0103: 0,
}
PIXELS = bytes(16)
Write = Callable[..., bytes]


def big(tag: int, vr: str, value: str | bytes = b"") -> bytes:
    """An element in Explicit VR Big Endian."""
    if vr == "US":
        assert isinstance(value, bytes)
        value = value[::-1]
    head, value = explicit(tag, vr, value)[:8], explicit(tag, vr, value)[12 if vr == "OW" else 8 :]
    size = struct.pack(">I" if vr == "OW" else ">H", len(value))
    return (
        struct.pack(">HH", tag >> 16, tag & 0xFFFF)
        + head[4:6]
        + (bytes(2) if vr == "OW" else b"")
        + size
        + value
    )


@dataclass(frozen=True, slots=True)
class Names:
    """UIDs of one instance in the study of one kind, which has ``OWN`` for its patient."""

    number: int
    group: str = "1"
    image: str = "1"

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return f"{ROOT}.{self.number}"

    @property
    def series(self) -> str:
        """SeriesInstanceUID."""
        return f"{self.study}.{self.group}"

    @property
    def instance(self) -> str:
        """SOPInstanceUID."""
        return f"{self.series}.{self.image}"


def meta(instance: str, *syntaxes: str, length: int | None = None, behind: bytes = b"") -> bytes:
    """File meta with a preamble. ``length``: what its group length says beyond the truth."""
    body = explicit(0x0002_0002, "UI", CT) + explicit(0x0002_0003, "UI", instance)
    body += b"".join(explicit(0x0002_0010, "UI", one) for one in syntaxes)
    size = len(body) + len(behind) + (length or 0)
    return (
        bytes(128) + b"DICM" + explicit(0x0002_0000, "UL", struct.pack("<I", size)) + body + behind
    )


def elements(names: Names, write: Write = explicit) -> dict[int, bytes]:
    """The elements of a small image, by tag, in order."""
    texts = [
        (0x0008_0016, "UI", CT),
        (0x0008_0018, "UI", names.instance),
        (0x0008_0020, "DA", "20240101"),
        (0x0008_0060, "CS", "CT"),
        (PATIENT_NAME, "PN", "X^Y "),
        (PATIENT_ID, "LO", OWN),
        (0x0010_0040, "CS", "O "),
        (STUDY, "UI", names.study),
        (SERIES, "UI", names.series),
        (0x0020_0013, "IS", "1 "),
        (0x0028_0004, "CS", "MONOCHROME2 "),
    ]
    made = {tag: write(tag, vr, value) for tag, vr, value in texts}
    made |= {tag: write(tag, "US", struct.pack("<H", value)) for tag, value in NUMBERS.items()}
    made[PIXEL_DATA] = write(PIXEL_DATA, "OW", PIXELS)
    return dict(sorted(made.items()))


Content = bytes | Callable[[Names], bytes]


@dataclass(frozen=True)
class File:
    """A file as it differs from a plain one; ``pieces`` are its file meta and its elements, one
    behind the other.

    ``changed``: what stands in place of an element. ``first``, ``behind``: what stands before and
    behind all others.
    """

    syntax: str = EXPLICIT
    write: Write = explicit
    changed: Mapping[int, Content] = field(default_factory=dict)
    first: bytes = b""
    behind: bytes = b""
    meta: Callable[[str], bytes] | None = None
    packed: Callable[[bytes], bytes] = bytes

    def pieces(self, names: Names) -> list[bytes]:
        """The file in pieces, none of them packed."""
        head = self.meta(names.instance) if self.meta else meta(names.instance, self.syntax)
        made = {
            tag: one if isinstance(one, bytes) else one(names) for tag, one in self.changed.items()
        }
        body = (elements(names, self.write) | made).values()
        return [piece for piece in (head, self.first, *body, self.behind) if piece]

    def data(self, pieces: list[bytes]) -> bytes:
        """These pieces as a file."""
        has_meta = self.meta is None or bool(self.meta(""))
        head, body = (pieces[:1], pieces[1:]) if has_meta else ([], pieces)
        return b"".join(head) + self.packed(b"".join(body))


@dataclass(frozen=True)
class Kind:
    """A kind of file. ``rule``: by which it is refused, empty: it passes; ``or``: as it comes in
    pieces.

    ``pydicom``, ``dcmdump``: the PatientID that these find; empty: none.
    """

    file: File
    rule: str
    why: str
    pydicom: str = OWN
    dcmdump: str = OWN


def deflate(data: bytes) -> bytes:
    """A deflated data set (PS3.5 A.5)."""
    compress = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compress.compress(data) + compress.flush()


def patient(value: str | bytes = OWN, vr: str = "LO") -> bytes:
    """PatientID."""
    return explicit(PATIENT_ID, vr, value)


def sequence(tag: int, content: bytes, length: int | None = UNDEFINED) -> bytes:
    """A sequence; ``length``: what it says of itself, ``None``: the truth."""
    end = SEQUENCE_END if length == UNDEFINED else b""
    return explicit(tag, "SQ", length=len(content) if length is None else length) + content + end


def first(content: bytes) -> File:
    """Elements before all others."""
    return File(first=content)


def behind(content: bytes) -> File:
    """Elements behind SeriesInstanceUID and before the pixel data."""
    return File(changed={0x0028_0103: explicit(0x0028_0103, "US", bytes(2)) + content})


def implicit_behind(content: bytes) -> File:
    """The same in Implicit VR."""
    return File(
        IMPLICIT, implicit, changed={0x0028_0103: implicit(0x0028_0103, "US", bytes(2)) + content}
    )


def at_end(content: bytes) -> File:
    """Something behind the pixel data."""
    return File(behind=content)


def changed(tag: int, content: Content) -> File:
    """Something in place of an element."""
    return File(changed={tag: content})


def with_meta(
    *syntaxes: str, length: int | None = None, behind: bytes = b"", write: Write = explicit
) -> File:
    """Another file meta."""
    return File(
        write=write, meta=lambda instance: meta(instance, *syntaxes, length=length, behind=behind)
    )


def repeated(syntax: str, again: str, write: Write = explicit) -> File:
    """Group 2 stands again in the data set."""
    return File(
        write=write, meta=lambda instance: meta(instance, syntax) + meta(instance, again)[132:]
    )


def without_group_length(instance: str) -> bytes:
    """File meta that begins with (0002,0002)."""
    whole = meta(instance, EXPLICIT)
    return whole[:132] + whole[144:]


def meta_out_of_order(instance: str) -> bytes:
    """TransferSyntaxUID before MediaStorageSOPClassUID."""
    body = explicit(0x0002_0010, "UI", EXPLICIT) + explicit(0x0002_0002, "UI", CT)
    return bytes(128) + b"DICM" + explicit(0x0002_0000, "UL", struct.pack("<I", len(body))) + body


def disguised(vr: bytes) -> bytes:
    """An element of length 0 and an unknown VR; with its VR taken for a length, it reaches to a
    PatientID.
    """
    reach = int.from_bytes(vr, "little")
    hidden = patient(EVIL) + explicit(PIXEL_DATA, "OW", bytes(16))
    return (
        struct.pack("<HH", 0x0029, 0x1001)
        + vr
        + bytes(2)
        + explicit(0x0029_1002, "OB", bytes(reach - 12) + hidden)
    )


AFTER_META = explicit(0x0002_0012, "UI", "1.2.3.4")
CREATOR = explicit(0x0009_0010, "LO", "ACME")
ICON = explicit(0x0028_0010, "US", b"\1\0") + explicit(PIXEL_DATA, "OW", bytes(64))
SHORT_ICON = item(ICON, len(ICON) - 24)
HIDDEN = explicit(ISSUER, "LO", EVIL)
IMPLICIT_HIDDEN = implicit(ISSUER, "LO", EVIL)
CREATOR_29 = explicit(0x0029_0010, "LO", "SIEMENS MEDCOM HEADER")
PRIVATE_IMPLICIT = implicit(0x0029_0010, "LO", "SIEMENS MEDCOM HEADER")
OTHERS = item(explicit(PATIENT_ID, "LO", EVIL))
NONE = File(meta=lambda instance: b"")
NONE_IMPLICIT = File(meta=lambda instance: b"", write=implicit)
DEEP = (explicit(0x0008_0006, "SQ", length=UNDEFINED) + item(b"", UNDEFINED)) * 40 + (
    ITEM_END + SEQUENCE_END
) * 40
FRAGMENTS = implicit(PIXEL_DATA, "OB")[:4] + b"\xff" * 4 + item(b"") + item(bytes(2)) + SEQUENCE_END
LOOKS = struct.pack("<HHI", 0x0008, 0x0005, 0x5343) + bytes(0x5343)
