"""A multipart body, in any split: identical bytes out, and not one byte of a foreign instance
(SIA-42, 43).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.element import Unreadable
from sidecar.dicom.instance_header import HeaderReader
from sidecar.dicomweb.body_filter import Malformed, SingleInstance
from sidecar.dicomweb.multipart import PART_WORK, STEP_WORK, Multipart
from sidecar.dicomweb.single_part import SinglePart
from tests.dicom_instances import dataset, encoded
from tests.dicomweb.bodies import (
    BOUNDARY,
    CUTS,
    FOREIGN,
    OWN,
    PARTS_OF,
    Foreign,
    body,
    check,
    feed,
    feed_all,
    part,
    split,
)
from tests.dicomweb.scanned_bodies import LOCATION, TAILS, only_part, run, scanner, with_tail

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


def test_a_delimiter_that_comes_in_two_chunks_is_not_read_as_a_part_of_a_small_instance() -> None:
    """A small instance's end comes together with its header."""
    small = encoded(dataset(PatientID="OWN-1"))
    data = body(*[part(small, length=False)] * 2)
    for cut in range(len(data)):
        assert run(scanner(), data, [cut]) == data


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
    passing = b"Content-Location: https://us/studies/1.2\r\nMIME-Version: 1.0\r\n"
    assert out == body(part(OWN, more=passing))
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


def test_a_second_part_with_another_head_where_one_was_asked_for() -> None:
    """The length that was said would be wrong."""
    data = body(part(OWN), part(OWN, more=LOCATION))
    with pytest.raises(Malformed, match="more_parts"):
        run(Multipart(BOUNDARY, *PARTS_OF, check, one_part=True), data, [])
    run(scanner(), data, [])


@given(CUTS)
def test_a_value_in_several_parts_is_noticed_before_a_byte_of_it_leaves(cuts: list[int]) -> None:
    """Orthanc's compressed pixel data: the offset table is short, and the client can still be told
    to ask otherwise.
    """
    released: list[bytes] = []
    data = body(part(b"offsets"), part(b"fragment"))
    with pytest.raises(Malformed, match="several_values"):
        feed_all(SinglePart(BOUNDARY, *PARTS_OF, None), split(data, cuts), released)
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


def test_fragments_are_not_looked_at_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encapsulated image costs what its fragments are, not what its bytes are."""
    looks: list[int] = []
    feed_some = HeaderReader.feed_some

    def counted(reader: HeaderReader, data: bytes | memoryview) -> InstanceHeader | None:
        looks.append(len(data))
        return feed_some(reader, data)

    monkeypatch.setattr(HeaderReader, "feed_some", counted)
    pixels = encapsulate([bytes(2**18)] * 4)
    encapsulated = encoded(dataset(PixelData=pixels, PatientID="OWN-1"), JPEGLSLossless)
    data = body(part(encapsulated, length=False))
    many = scanner()
    passed = b"".join(many.steps(data))
    assert passed + many.end() == data
    assert len(looks) <= 8
    assert sum(looks) < 2**17


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
