"""The length of a multipart answer: known before its end only where it holds (SIA-43)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dicomweb.body_filter import Malformed
from sidecar.dicomweb.multipart import Multipart
from sidecar.dicomweb.single_part import SinglePart
from tests.dicomweb.bodies import (
    BOUNDARY,
    CUTS,
    OWN,
    PARTS_OF,
    body,
    check,
    feed,
    part,
    split,
)
from tests.dicomweb.scanned_bodies import LOCATION, run, scanner


def released_and_length(
    of: Multipart, data: bytes, cuts: list[int], came: int | None
) -> tuple[int, int | None]:
    """How many bytes left, and what was known of that when the first ones did."""
    released, known = 0, None
    for chunk in split(data, cuts):
        out = feed(of, chunk)
        if out and not released:
            known = of.length(came)
        released += len(out)
    return released + len(of.end()), known


@given(st.booleans(), st.booleans(), st.booleans(), CUTS)
def test_the_length_of_one_part_is_known(
    length: bool, more: bool, lead: bool, cuts: list[int]
) -> None:
    """What a rewritten header line adds is counted; for progress bars."""
    data = body(part(OWN, length=length, more=LOCATION if more else b""), lead=lead)
    of = Multipart(BOUNDARY, *PARTS_OF, check, one_part=True)
    released, known = released_and_length(of, data, cuts, len(data))
    assert released == known
    assert (released == len(data)) is not more
    of = Multipart(BOUNDARY, *PARTS_OF, check, one_part=True)
    assert released_and_length(of, data, cuts, None)[1] is None


@given(st.booleans(), st.sampled_from(["none", "first", "last", "longer"]), CUTS)
def test_the_length_of_several_parts_is_known_while_nothing_changes(
    length: bool, changed: str, cuts: list[int]
) -> None:
    """Once it was said, it holds: header lines that change later keep their length."""
    short = b"Content-Location: http://pacs/studies/1.2/series/1.3/instances/1.4/frames/1\r\n"
    lines = {"longer": b"Content-Location: http://p/studies/1.2\r\n"}.get(
        changed, short + b"X-Archive: 7\r\n"
    )
    parts = [
        part(OWN, length=length),
        part(OWN, length=length),
        part(OWN, length=length, more=lines),
    ]
    if changed == "none":
        parts.pop()
    data = body(*(reversed(parts) if changed == "first" else parts))
    released, known = released_and_length(scanner(), data, cuts, len(data))
    assert known in (released, None)
    assert released_and_length(scanner(), data, cuts, None)[1] is None
    if changed == "none" or not cuts:
        assert known == released
    passed = run(scanner(), data, cuts)
    assert b"pacs" not in passed
    assert b"X-Archive" not in passed
    assert passed.count(OWN) == len(parts)


def test_a_length_that_was_said_holds() -> None:
    """The last part's header lines are shorter with us, longer, or gone: nothing leaves that is of
    another length.
    """
    first = body(part(OWN))[: -len(BOUNDARY) - 8]
    for more in (LOCATION, b"X-Archive: 7\r\n", b"Content-Location: http://p/studies/1.2\r\n"):
        data = body(part(OWN), part(OWN, more=more))
        of = scanner()
        released = len(feed(of, data[: len(first)]))
        assert of.length(len(data)) == len(data)
        rest = feed(of, data[len(first) :]) + of.end()
        assert released + len(rest) == len(data)
        assert b"X-Archive" not in rest
        assert b"http://p" not in rest
    of = scanner()
    feed(of, data[: len(first)])
    of.length(len(data))
    with pytest.raises(Malformed, match="part_headers"):
        feed(of, body(b"\r\n--" + BOUNDARY.encode() + b"\r\nX-Archive: 7\r\n\r\n" + OWN, lead=True))


@given(st.booleans(), st.sampled_from([b"x", OWN]), CUTS)
def test_the_length_of_the_only_part_is_known(
    length: bool, content: bytes, cuts: list[int]
) -> None:
    """When it says so itself, or has come whole before the first of it leaves."""
    of = SinglePart(BOUNDARY, *PARTS_OF, None)
    data = body(part(content, length=length))
    released, known = released_and_length(of, data, cuts, len(data))
    assert released == len(content)
    assert known in ((len(content),) if length else (len(content), None))
