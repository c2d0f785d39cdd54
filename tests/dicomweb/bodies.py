"""Multipart bodies of instances, split and fed to scanners."""

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import strategies as st

from sidecar.access.facts import InstanceHeader
from sidecar.dicomweb.body_filter import Scanner
from sidecar.dicomweb.paths import Kind
from tests.dicom_instances import dataset, encoded

BOUNDARY = "a b'(1)+"
OWN, FOREIGN = (
    encoded(dataset(PatientID=name, BitsAllocated=8, PixelData=name.encode() * 4_000))
    for name in ("OWN-1", "FOREIGN-1")
)
PARTS_OF = (Kind.STUDY, "https://us")
"""Of what a scanned multipart is, and the root of its URLs."""
CUTS = st.lists(st.integers(0, 2**20), max_size=30)


class Foreign(Exception):
    """What the check raises."""


def check(header: InstanceHeader) -> None:
    if header.patient.patient_id != "OWN-1":
        raise Foreign


def part(content: bytes, *, length: bool = True, more: bytes = b"") -> bytes:
    head = b"Content-Type: application/dicom\r\n" + more
    if length:
        head += b"Content-Length: %d\r\n" % len(content)
    return b"\r\n--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n" + content


def body(*parts: bytes, lead: bool = False) -> bytes:
    whole = b"".join(parts) + b"\r\n--" + BOUNDARY.encode() + b"--\r\n"
    return whole if lead else whole[2:]


def feed(scanner: Scanner, chunk: bytes) -> bytes:
    """Return all that leaves of this chunk."""
    return b"".join(scanner.steps(chunk))


def split(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    borders = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, end in pairwise(borders):
        yield data[start:end]


def feed_all(scan: Scanner, chunks: Iterator[bytes], released: list[bytes]) -> None:
    """Put into ``released`` what leaves until the scanner raises."""
    released.extend(feed(scan, chunk) for chunk in chunks)
