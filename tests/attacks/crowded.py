"""Instances of a few megabytes with as many elements,
items or deflated bytes as there is room for.
"""

import functools
import struct
import zlib
from collections.abc import Callable

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.dicom_instances import dataset, encoded
from tests.fakes.ehr import PATIENT

BYTES = 2 * 2**20
"""Size of what is added to an instance: it comes from the socket a megabyte a time."""
UNDEFINED = 0xFFFF_FFFF
MEBIBYTE = 2**20


def head(tag: int, vr: str, length: int) -> bytes:
    """The head of an element in Explicit VR Little Endian, or of an item (no ``vr``)."""
    group, number = tag >> 16, tag & 0xFFFF
    if not vr:
        return struct.pack("<HHI", group, number, length)
    if vr in ("SQ", "OB", "UN"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, length)
    return struct.pack("<HH2sH", group, number, vr.encode(), length)


ITEM_END, SEQUENCE_END = head(0xFFFE_E00D, "", 0), head(0xFFFE_E0DD, "", 0)


def item(content: bytes) -> bytes:
    return head(0xFFFE_E000, "", len(content)) + content


def sequence(tag: int, content: bytes) -> bytes:
    """A sequence that ends with a delimiter."""
    return head(tag, "SQ", UNDEFINED) + content + SEQUENCE_END


def filled(one: bytes, size: int = BYTES) -> bytes:
    return one * (size // len(one))


def text(tag: int, value: str) -> bytes:
    return head(tag, "DS", len(value)) + value.encode()


def nested(tag: int, depth: int) -> bytes:
    """Sequences in sequences."""
    content = b""
    for _ in range(depth):
        content = sequence(tag, item(content))
    return content


def contours(tag: int = 0x3006_0039) -> bytes:
    """An RT Structure Set's: each contour of one point (PS3.3 C.8.8.6)."""
    contour = item(text(0x3006_0046, "1 ") + text(0x3006_0050, "0\\0\\0 "))
    of_one_roi = item(sequence(0x3006_0040, filled(contour, 2**16)))
    return sequence(tag, filled(of_one_roi))


def frames(tag: int = 0x5200_9230) -> bytes:
    """The functional groups of an enhanced multi-frame image (PS3.3 C.7.6.16)."""
    content = sequence(0x0020_9111, item(text(0x0020_9057, "1 ")))
    position = sequence(0x0020_9113, item(text(0x0020_0032, "0\\0\\0 ")))
    return sequence(tag, filled(item(content + position)))


def tiny_elements(group: int) -> bytes:
    """Empty private elements in order."""
    heads = (head(group << 16 | number, "LO", 0) for number in range(0x1000, 0xFFFF))
    return b"".join(heads)


def unknown_elements(group: int) -> bytes:
    """Private elements of eight bytes, which may begin with an item (Implicit VR)."""
    return b"".join(
        head(group << 16 | number, "", 8) + bytes(8) for number in range(0x1000, 0xFFFF)
    )


def instance(
    content: bytes, *, before: bool = False, syntax: str = ExplicitVRLittleEndian, zeros: int = 0
) -> bytes:
    """An instance of the patient with ``content`` behind its header, or ``before`` its PatientID.

    ``content`` is in Explicit VR Little Endian also where the instance is deflated, and else in
    that of its syntax. So many ``zeros`` follow where it is deflated, a multiple of ``MEBIBYTE``.
    """
    place = {
        "PatientID": PATIENT,
        "StudyInstanceUID": "1.2.840.1",
        "SeriesInstanceUID": "1.2.840.1.1",
    }
    made = dataset(**place, SOPInstanceUID="1.2.840.1.1.1")
    deflated = syntax == DeflatedExplicitVRLittleEndian
    written = encoded(made, ExplicitVRLittleEndian if deflated else syntax)
    if before:
        patient = struct.pack("<HH", 0x0010, 0x0010) + (
            b"" if syntax == ImplicitVRLittleEndian else b"PN"
        )
        at = written.index(patient)
        written = written[:at] + content + written[at:]
    else:
        written += content
    return _deflated(written, zeros) if deflated else written


def _deflated(written: bytes, zeros: int) -> bytes:
    """The same and ``zeros`` in Deflated Explicit VR Little Endian (PS3.5 A.5).

    A mebibyte of them is deflated: after a full flush the same bytes may follow again and again.
    """
    other = encoded(dataset(), DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + int.from_bytes(other[140:144], "little")
    begin = 132 + 12 + int.from_bytes(written[140:144], "little")
    packed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packed.compress(written[begin:]) + packed.flush(zlib.Z_FULL_FLUSH)
    more = packed.compress(bytes(MEBIBYTE)) + packed.flush(zlib.Z_FULL_FLUSH) if zeros else b""
    return other[:start] + body + more * (zeros // MEBIBYTE) + packed.flush()


BEHIND, BEFORE = 0x5200_9230, 0x0008_1140
INSTANCES: dict[str, Callable[[], bytes]] = {
    "empty items": lambda: instance(sequence(BEHIND, filled(item(b"")))),
    "empty items before the header": lambda: instance(
        sequence(BEFORE, filled(item(b""))), before=True
    ),
    "empty items before the header, just few enough": lambda: instance(
        sequence(BEFORE, filled(item(b""), 49_000 * 8)), before=True
    ),
    "items of a short element": lambda: instance(
        sequence(BEHIND, filled(item(text(0x0020_0032, ""))))
    ),
    "sequences nested deep": lambda: instance(
        sequence(BEHIND, filled(item(nested(0x0040_A730, 13))))
    ),
    "empty sequences": lambda: instance(sequence(BEHIND, item(filled(head(0x0040_A730, "SQ", 0))))),
    "contours": lambda: instance(contours()),
    "contours before the header": lambda: instance(contours(BEFORE), before=True),
    "functional groups": lambda: instance(frames()),
    "tiny elements": lambda: instance(
        b"".join(map(tiny_elements, (0x0029, 0x0031, 0x0033, 0x0035)))
    ),
    "tiny elements before the header": lambda: instance(tiny_elements(0x0009), before=True),
    "elements that are looked into": lambda: instance(
        b"".join(map(unknown_elements, (0x0029, 0x0031))), syntax=ImplicitVRLittleEndian
    ),
    "fragments of pixel data": lambda: instance(
        head(0x7FE0_0010, "OB", UNDEFINED) + filled(item(b"")) + SEQUENCE_END
    ),
    "deflated items": lambda: instance(
        sequence(BEHIND, filled(item(b""), 8 * 2**20)), syntax=DeflatedExplicitVRLittleEndian
    ),
    "deflated items before the header": lambda: instance(
        sequence(BEFORE, filled(item(b""), 3 * 2**20)),
        before=True,
        syntax=DeflatedExplicitVRLittleEndian,
    ),
    "deflated zeros": lambda: instance(
        head(0x7FE0_0010, "OB", 2**28), syntax=DeflatedExplicitVRLittleEndian, zeros=2**28
    ),
}


@functools.cache
def crowded(name: str) -> bytes:
    """One of ``INSTANCES``, made once."""
    return INSTANCES[name]()
