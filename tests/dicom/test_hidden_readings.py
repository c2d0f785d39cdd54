"""What a reader could find that the walk did not look at: behind a deflated data set, in it, behind
odd fragments.
"""

import io
import struct
import warnings
import zlib

import pydicom
import pytest

from sidecar.dicom.element import Unreadable
from sidecar.dicom.instance_header import HeaderReader

WANTED = (
    (0x00080018, b"UI", b"1.2.3\0"),
    (0x00100020, b"LO", b"OWN1"),
    (0x0020000D, b"UI", b"1.2.1\0"),
    (0x0020000E, b"UI", b"1.2.1.1\0"),
)
UNDEFINED = 0xFFFF_FFFF


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    if vr in (b"OB", b"OW"):
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def implicit(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    return (
        struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length)
        + value
    )


def meta(syntax: bytes) -> bytes:
    body = explicit(0x00020010, b"UI", syntax)
    return bytes(128) + b"DICM" + explicit(0x00020000, b"UL", struct.pack("<I", len(body))) + body


def deflated(body: bytes) -> bytes:
    compress = zlib.compressobj(9, zlib.DEFLATED, -15)
    return meta(b"1.2.840.10008.1.2.1.99") + compress.compress(body) + compress.flush()


OWN = b"".join(explicit(*one) for one in WANTED)
FOREIGN = (meta(b"1.2.840.10008.1.2.1\0") + OWN).replace(b"OWN1", b"EVE9")
PATIENT = explicit(0x00100020, b"LO", b"FOREIGN0")
PENDING = OWN + explicit(0x00211010, b"OB", bytes(65_536 - len(OWN) - 24 - len(PATIENT) * 3 - 5))
IMPLICIT = meta(b"1.2.840.10008.1.2\0") + b"".join(implicit(tag, value) for tag, _, value in WANTED)
FRAGMENTS = (
    implicit(0x7FE00010, length=UNDEFINED)
    + implicit(0xFFFEE000)
    + implicit(0xFFFEE000, b"\0\0") * 2
    + implicit(0xFFFEE0DD)
)
HIDDEN = {
    "a file behind a deflated one": deflated(OWN + explicit(0x7FE00010, b"OW", bytes(300_000)))
    + FOREIGN,
    "a file behind a small deflated one": deflated(OWN + explicit(0x7FE00010, b"OW", bytes(1_000)))
    + FOREIGN,
    "output that was pending": deflated(
        PENDING + explicit(0x00211011, b"OB", PATIENT * 3) + PATIENT
    ),
    "fragments in implicit VR": IMPLICIT + FRAGMENTS + implicit(0x00100020, b"FOREIGN3"),
}


def read(data: bytes, step: int) -> str:
    reader = HeaderReader()
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        passed = reader.pass_over(len(piece)) if start else 0
        list(reader.steps(piece[passed:]))
    return reader.end().patient.patient_id


@pytest.mark.parametrize("what", HIDDEN)
@pytest.mark.parametrize("step", [1, 7, 1_000, 16_384, 2**20])
def test_it_is_refused(what: str, step: int) -> None:
    with pytest.raises(Unreadable):
        read(HIDDEN[what], step)


@pytest.mark.parametrize("what", ["output that was pending", "fragments in implicit VR"])
def test_another_reader_would_find_another_patient(what: str) -> None:
    """Else the rows above would show nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert str(pydicom.dcmread(io.BytesIO(HIDDEN[what])).PatientID).startswith("FOREIGN")


@pytest.mark.parametrize("behind", [b"", b"\0", bytes(500), b"12345678", b"12345678" + bytes(9)])
@pytest.mark.parametrize("step", [1, 1_000, 2**20])
def test_padding_and_a_checksum_are_fine(behind: bytes, step: int) -> None:
    assert (
        read(deflated(OWN + explicit(0x7FE00010, b"OW", bytes(200_000))) + behind, step) == "OWN1"
    )
