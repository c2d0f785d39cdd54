"""Encodings of elements that two readers read in two ways."""

import struct

STUDY, SERIES, INSTANCE, CT = (
    "1.2.840.1",
    "1.2.840.1.1",
    "1.2.840.1.1.1",
    "1.2.840.10008.5.1.4.1.1.2",
)
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
LONG = {"OB", "OW", "UN", "SQ", "UT"}
UNDEFINED = 0xFFFF_FFFF
ITEM_END, SEQUENCE_END = b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)


def padded(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return data + (b"\0" if len(data) % 2 else b"")


def explicit(tag: int, vr: str, value: str | bytes = b"", length: int | None = None) -> bytes:
    data = padded(value)
    size = len(data) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    return (
        head
        + (bytes(2) + struct.pack("<I", size) if vr in LONG else struct.pack("<H", size))
        + data
    )


def implicit(tag: int, vr: str, value: str | bytes = b"") -> bytes:
    data = padded(value)
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(data)) + data


def item(content: bytes, length: int | None = None) -> bytes:
    return (
        b"\xfe\xff\x00\xe0"
        + struct.pack("<I", len(content) if length is None else length)
        + content
    )
