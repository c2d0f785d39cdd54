"""A single instance, or the only part of a multipart body, without its delimiters (SIA-42, 43)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dicom.element import Unreadable
from sidecar.dicomweb.body_filter import Malformed, SingleInstance
from tests.dicomweb.bodies import (
    CUTS,
    FOREIGN,
    OWN,
    Foreign,
    body,
    check,
    feed_all,
    part,
    split,
)
from tests.dicomweb.scanned_bodies import TAILS, only_part, run, with_tail


@given(CUTS)
def test_a_single_instance(cuts: list[int]) -> None:
    assert run(SingleInstance(check), OWN, cuts) == OWN
    released: list[bytes] = []
    with pytest.raises(Foreign):
        feed_all(SingleInstance(check), split(FOREIGN, cuts), released)
    assert b"".join(released) == b""
    with pytest.raises(Unreadable):
        run(SingleInstance(check), OWN[:300], cuts)


@given(TAILS, st.booleans(), st.booleans(), CUTS)
def test_the_content_of_the_only_part(
    tail: bytes, length: bool, lead: bool, cuts: list[int]
) -> None:
    """For a client that wants one instance without multipart: its bytes, neither more nor fewer."""
    assert run(
        only_part(), body(part(with_tail(tail), length=length), lead=lead), cuts
    ) == with_tail(tail)


@given(st.booleans(), st.integers(1, 20_000), CUTS)
def test_an_only_part_that_is_cut_never_ends_well(
    length: bool, missing: int, cuts: list[int]
) -> None:
    data = body(part(OWN, length=length)).rstrip(b"\r\n")
    with pytest.raises((Malformed, Unreadable)):
        run(only_part(), data[: -min(missing, len(data))], cuts)


@given(st.booleans(), CUTS)
def test_a_second_or_foreign_part_is_refused(length: bool, cuts: list[int]) -> None:
    """Two files behind one another would look like one."""
    released: list[bytes] = []
    with pytest.raises(Malformed, match="more_parts"):
        feed_all(
            only_part(),
            split(body(part(OWN, length=length), part(FOREIGN, length=length)), cuts),
            released,
        )
    assert OWN.startswith(b"".join(released))
    released.clear()
    with pytest.raises(Foreign):
        feed_all(only_part(), split(body(part(FOREIGN, length=length)), cuts), released)
    assert b"".join(released) == b""
