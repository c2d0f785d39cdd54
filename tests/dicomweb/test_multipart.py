"""A multipart body, in any split: identical bytes out, and not one byte of a foreign instance
(SIA-42, 43).
"""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.element import Unreadable
from sidecar.dicomweb.body_filter import Malformed, Scanner, SingleInstance
from sidecar.dicomweb.multipart import PART_WORK, STEP_WORK, Multipart
from sidecar.dicomweb.single_part import SinglePart
from tests.dicom_instances import dataset, encoded
from tests.dicomweb.bodies import (
    BOUNDARY,
    CUTS,
    FOREIGN,
    OWN,
    Foreign,
    Rules,
    body,
    check,
    feed,
    feed_all,
    part,
    split,
)


def scanner(of: Callable[[InstanceHeader], None] | None = check) -> Multipart:
    return Multipart(BOUNDARY, Rules(), of)


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
CONTENTS = st.lists(st.just(OWN) | TAILS.map(with_tail), min_size=1, max_size=4)


@given(CONTENTS, st.booleans(), st.booleans(), CUTS)
def test_any_split_of_any_valid_body_gives_the_identical_bytes(
    contents: list[bytes], length: bool, lead: bool, cuts: list[int]
) -> None:
    data = body(*(part(content, length=length) for content in contents), lead=lead)
    assert run(scanner(), data, cuts) == data


def test_byte_by_byte() -> None:
    data = body(part(OWN[:9_000]), part(OWN[:9_000], length=False))
    assert run(scanner(), data, list(range(len(data)))) == data


@given(st.integers(0, 3), st.integers(0, 3), st.booleans(), CUTS)
def test_a_foreign_instance_is_never_released(
    before: int, after: int, length: bool, cuts: list[int]
) -> None:
    """Not one byte of it, wherever it stands and however it arrives."""
    head = body(*[part(OWN, length=length)] * before)[: -len(BOUNDARY) - 8]
    data = body(
        *[part(OWN, length=length)] * before,
        part(FOREIGN, length=length),
        *[part(OWN, length=length)] * after,
    )
    chunks: list[bytes] = []
    with pytest.raises(Foreign):
        feed_all(scanner(), split(data, cuts), chunks)
    released = b"".join(chunks)
    # What was released earlier, and perhaps the delimiter; what came in the same chunk is lost with
    # it.
    assert len(released) <= len(head) + len(BOUNDARY) + 8
    assert data.startswith(released)
    assert b"FOREIGN" not in released


@given(st.booleans(), CUTS)
def test_no_part_at_all_is_no_study(lead: bool, cuts: list[int]) -> None:
    """An answer of 200 with nothing in it would be taken for an empty study."""
    with pytest.raises(Malformed, match="empty"):
        run(scanner(), body(lead=lead), cuts)


@given(st.booleans(), st.integers(1, 20_000), CUTS)
def test_a_body_that_is_cut_anywhere_never_ends_well(
    length: bool, missing: int, cuts: list[int]
) -> None:
    data = body(part(OWN, length=length), part(OWN, length=length))
    # The line break behind the closing delimiter does not count.
    data = data[: -2 - missing]
    with pytest.raises((Malformed, Unreadable)):
        run(scanner(), data, cuts)


@pytest.mark.parametrize("kept", [0, 1, 130, 200, 330])
def test_an_instance_that_is_no_whole_header_is_refused(kept: int) -> None:
    with pytest.raises(Unreadable):
        run(scanner(), body(part(OWN[:kept]), part(OWN)), [])


BROKEN: dict[str, bytes] = {
    "length too large": body(part(OWN)).replace(b"Content-Length: ", b"Content-Length: 1"),
    "length too long": body(
        part(OWN).replace(b"Content-Length: %d" % len(OWN), b"Content-Length: %d" % (len(OWN) - 5))
    ),
    "length twice": body(part(OWN, more=b"Content-Length: 3\r\n")),
    "length no number": body(part(OWN, length=False, more=b"Content-Length: +5\r\n")),
    "text before": b"hello" + body(part(OWN), lead=True),
    "text behind": body(part(OWN)) + b"hello",
    "another body behind": body(part(OWN)) + body(part(FOREIGN)),
    "a long line break": body(part(OWN)) + b"\r\n" * 2_000,
    "headers without end": body(part(OWN, more=b"X-Long: " + b"x" * 20_000 + b"\r\n")),
    "a folded header": body(part(OWN, more=b"X-A: b\r\n c\r\n")),
    "a bare line feed": body(part(OWN, more=b"X-A: b\nContent-Length: 3\r\n")),
    "a header without name": body(part(OWN, more=b": b\r\n")),
    "HTML": body(part(b"<html>").replace(b"application/dicom", b"text/html")),
    "text behind the delimiter": body(
        part(OWN).replace(BOUNDARY.encode() + b"\r\n", BOUNDARY.encode() + b"x\r\n")
    ),
    "nothing": b"",
    "no delimiter": b"\r\n" * 3_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_bodies_are_refused(what: str) -> None:
    for cuts in ([], list(range(0, 40_000, 7))):
        with pytest.raises((Malformed, Unreadable, Foreign)):
            run(scanner(), BROKEN[what], cuts)


def test_addresses_of_the_archive_do_not_pass() -> None:
    """dcm4chee writes its own address into each part; other header lines are left out."""
    location = b"Content-Location: http://pacs:8080/rs/studies/1.2\r\n"
    more = location + b"X-Host: pacs\r\nMIME-Version: 1.0\r\n"
    out = run(scanner(), body(part(OWN, more=more)), [])
    assert out == body(part(OWN, more=b"Content-Location: https://us/1.2\r\nMIME-Version: 1.0\r\n"))
    out = run(scanner(), body(part(OWN, more=b"Content-Location: http://pacs:8080/x\r\n")), [])
    assert out == body(part(OWN))


def test_parts_that_are_no_instances_are_not_looked_into() -> None:
    data = body(part(b"frame 1"), part(b"", length=False), part(b"frame 3", length=False))
    assert run(scanner(None), data, list(range(len(data)))) == data


def test_a_part_without_header_lines() -> None:
    data = body(b"\r\n--" + BOUNDARY.encode() + b"\r\n\r\n" + OWN)
    for cuts in ([], list(range(0, len(data), 3))):
        assert run(scanner(), data, cuts) == data


@given(st.binary(max_size=2_000), CUTS)
def test_any_bytes_are_refused_or_pass_unchanged(data: bytes, cuts: list[int]) -> None:
    try:
        out = run(scanner(), data, cuts)
    except (Malformed, Unreadable, Foreign):
        return
    assert out == data


def test_memory_is_bounded_by_one_head() -> None:
    """A part of 100 MB without a length: what is held never grows."""
    scan = scanner()
    feed(scan, body(part(with_tail(b"", 2**31), length=False))[: -len(BOUNDARY) - 8])
    for _ in range(400):
        feed(scan, b"\r\n--" * 2**16)
        assert len(scan._held) < 100


@given(CUTS)
def test_a_single_instance(cuts: list[int]) -> None:
    assert run(SingleInstance(check), OWN, cuts) == OWN
    released: list[bytes] = []
    with pytest.raises(Foreign):
        feed_all(SingleInstance(check), split(FOREIGN, cuts), released)
    assert b"".join(released) == b""
    with pytest.raises(Unreadable):
        run(SingleInstance(check), OWN[:300], cuts)


def only_part() -> SinglePart:
    return SinglePart(BOUNDARY, Rules(), check)


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


LOCATION = b"Content-Location: http://pacs/studies/1.2/frames/1\r\nX-Archive: 7\r\n"


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
    of = Multipart(BOUNDARY, Rules(), check, one_part=True)
    released, known = released_and_length(of, data, cuts, len(data))
    assert released == known
    assert (released == len(data)) is not more
    of = Multipart(BOUNDARY, Rules(), check, one_part=True)
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
    of = SinglePart(BOUNDARY, Rules(), None)
    data = body(part(content, length=length))
    released, known = released_and_length(of, data, cuts, len(data))
    assert released == len(content)
    assert known in ((len(content),) if length else (len(content), None))


def test_a_second_part_with_another_head_where_one_was_asked_for() -> None:
    """The length that was said would be wrong."""
    data = body(part(OWN), part(OWN, more=LOCATION))
    with pytest.raises(Malformed, match="more_parts"):
        run(Multipart(BOUNDARY, Rules(), check, one_part=True), data, [])
    run(scanner(), data, [])


@given(CUTS)
def test_a_value_in_several_parts_is_noticed_before_a_byte_of_it_leaves(cuts: list[int]) -> None:
    """Orthanc's compressed pixel data: the offset table is short, and the client can still be told
    to ask otherwise.
    """
    released: list[bytes] = []
    data = body(part(b"offsets"), part(b"fragment"))
    with pytest.raises(Malformed, match="several_values"):
        feed_all(SinglePart(BOUNDARY, Rules(), None), split(data, cuts), released)
    assert b"".join(released) == b""


@pytest.mark.parametrize("step", [1, 9, 100, 10_000])
@pytest.mark.parametrize("lead", [False, True])
def test_before_the_first_part_was_looked_at_nothing_leaves(step: int, lead: bool) -> None:
    """Not even its delimiter: the refusal can still be an answer of its own."""
    data, released = body(part(FOREIGN), part(OWN), lead=lead), list[bytes]()
    with pytest.raises(Foreign):
        feed_all(
            scanner(), (data[start : start + step] for start in range(0, len(data), step)), released
        )
    assert b"".join(released) == b""


PARTS_AT_ONCE = STEP_WORK // PART_WORK
"""At most: each part has some elements, too."""


@pytest.mark.parametrize("number", [1, PARTS_AT_ONCE // 2, PARTS_AT_ONCE, 4 * PARTS_AT_ONCE + 3])
def test_many_parts_in_one_chunk_are_looked_at_some_at_a_time(number: int) -> None:
    """An archive's chunk may have thousands: others have their turn in between."""
    small = encoded(dataset(PatientID="OWN-1"))
    data = body(*[part(small)] * number)
    many = scanner()
    seen: list[int] = []
    passed = []
    for piece in many.steps(data):
        seen.append(many.parts - sum(seen))
        passed.append(bytes(piece))
    assert max(seen) <= PARTS_AT_ONCE
    assert b"".join(passed) + many.end() == data
    assert many.parts == number


def test_a_foreign_part_behind_many_does_not_leave() -> None:
    small = encoded(dataset(PatientID="OWN-1"))
    many = scanner()
    steps = many.steps(body(*[part(small)] * (2 * PARTS_AT_ONCE), part(FOREIGN)))
    passed = list[bytes]()
    with pytest.raises(Foreign):
        passed.extend(bytes(piece) for piece in steps)
    assert len(passed) > 2
    assert b"FOREIGN-1" not in b"".join(passed)


@given(CUTS, st.booleans())
def test_a_second_patient_id_that_is_cut_is_refused(cuts: list[int], length: bool) -> None:
    """Some readers take what there is of it: the transfer does not end well, though the header was
    good.
    """
    cut = OWN + b"\x10\x00\x20\x00LO\x40\x00EVIL"
    for scan, data in (
        (SingleInstance(check), cut),
        (scanner(), body(part(cut, length=length), part(OWN))),
        (only_part(), body(part(cut, length=length))),
    ):
        with pytest.raises(Unreadable) as refused:
            run(scan, data, cuts)
        assert refused.value.rule == "cut_short"
