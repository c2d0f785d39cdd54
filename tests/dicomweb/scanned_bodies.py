"""Scanners of multipart bodies, and what they release of a body in chunks."""

from collections.abc import Callable

from hypothesis import strategies as st

from sidecar.access.facts import InstanceHeader
from sidecar.dicomweb.body_filter import Scanner
from sidecar.dicomweb.multipart import Multipart
from sidecar.dicomweb.single_part import SinglePart
from tests.dicomweb.bodies import (
    BOUNDARY,
    OWN,
    PARTS_OF,
    check,
    feed,
    split,
)


def scanner(of: Callable[[InstanceHeader], None] | None = check) -> Multipart:
    return Multipart(BOUNDARY, *PARTS_OF, of)


def run(scan: Scanner, data: bytes, cuts: list[int]) -> bytes:
    out = b"".join(feed(scan, chunk) for chunk in split(data, cuts))
    return out + scan.end()


def with_tail(tail: bytes, length: int | None = None) -> bytes:
    """OWN with these bytes at its end, as its Data Set Trailing Padding."""
    size = len(tail) if length is None else length
    return OWN + b"\xfc\xff\xfc\xffOB\0\0" + size.to_bytes(4, "little") + tail


TAILS = st.one_of(
    st.binary(max_size=300),
    st.just(b"\r\n--" + BOUNDARY.encode()[:-1]),
    st.just(b"\r"),
    st.just(b"\r\n-"),
)


def only_part() -> SinglePart:
    return SinglePart(BOUNDARY, *PARTS_OF, check)


LOCATION = b"Content-Location: http://pacs/studies/1.2/frames/1\r\nX-Archive: 7\r\n"
