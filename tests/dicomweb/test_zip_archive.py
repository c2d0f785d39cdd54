"""A multipart that leaves as a ZIP, in any split: the same files, nothing foreign, none if not
whole.
"""

import gc
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import InstanceHeader
from sidecar.dicomweb.body_filter import Malformed
from sidecar.dicomweb.zip_archive import ZipArchive
from tests.dicom_instances import dataset, encoded
from tests.dicomweb.bodies import (
    BOUNDARY,
    CUTS,
    FOREIGN,
    PARTS_OF,
    Foreign,
    body,
    check,
    feed,
    feed_all,
    part,
    split,
)


def instance(number: int, size: int = 4_000) -> bytes:
    made = dataset(PatientID="OWN-1", SeriesNumber=2, InstanceNumber=number, BitsAllocated=8)
    made.PixelData = bytes([number % 256]) * size
    return encoded(made)


ONE, TWO, THREE = (instance(number) for number in (1, 2, 3))


def archive() -> ZipArchive:
    return ZipArchive(BOUNDARY, *PARTS_OF, check)


def run(data: bytes, cuts: list[int]) -> bytes:
    scan = archive()
    out = b"".join(feed(scan, chunk) for chunk in split(data, cuts))
    assert scan.end() == b""
    return out + b"".join(scan.directory())


def files(whole: bytes) -> dict[str, bytes]:
    with ZipFile(io.BytesIO(whole)) as opened:
        assert opened.testzip() is None
        assert {one.compress_type for one in opened.infolist()} == {ZIP_STORED}
        return {name: opened.read(name) for name in opened.namelist()}


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.booleans(), CUTS)
def test_any_split_gives_the_same_files(lengths: list[bool], lead: bool, cuts: list[int]) -> None:
    parts = [
        part(content, length=length)
        for content, length in zip((ONE, TWO, THREE), lengths, strict=True)
    ]
    whole = run(body(*parts, lead=lead), cuts)
    assert whole == run(body(*parts), [])
    assert files(whole) == {
        f"DICOM/0002-CT/000{number}.dcm": one for number, one in enumerate((ONE, TWO, THREE), 1)
    }


def test_byte_by_byte() -> None:
    data = body(part(ONE), part(TWO, length=False))
    assert run(data, list(range(len(data)))) == run(data, [])


@given(st.integers(0, 3), st.booleans(), CUTS)
def test_a_foreign_instance_is_never_released(before: int, length: bool, cuts: list[int]) -> None:
    """Not one byte of it, and what came before it is no ZIP."""
    data = body(*[part(ONE, length=length)] * before, part(FOREIGN, length=length), part(ONE))
    released: list[bytes] = []
    with pytest.raises(Foreign):
        feed_all(archive(), split(data, cuts), released)
    assert b"FOREIGN" not in b"".join(released)
    assert_no_zip(b"".join(released))


def assert_no_zip(released: bytes) -> None:
    with pytest.raises(BadZipFile):
        ZipFile(io.BytesIO(released))


@given(st.integers(1, 10**9))
def test_a_body_that_is_cut_short_is_no_zip(at: int) -> None:
    """Whatever came of it."""
    data = body(part(ONE), part(TWO, length=False), part(THREE))
    scan, released = archive(), list[bytes]()
    feed_all(scan, iter([data[: at % (len(data) - len("\r\n"))]]), released)
    with pytest.raises(Malformed):
        scan.end()
    assert_no_zip(b"".join(released))


def test_one_that_is_given_up_is_not_finished_when_its_memory_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a ``ZipFile`` does by itself: work for nothing, and an error where a file is open."""
    closed = list[object]()
    monkeypatch.setattr(ZipFile, "close", closed.append)
    scan = archive()
    feed(scan, body(part(ONE), part(TWO))[:-9_000])
    del scan
    gc.collect()
    assert not closed


def test_nothing_leaves_before_the_first_instance_was_looked_at() -> None:
    """Then an error can still be an error."""
    scan, data = archive(), body(part(ONE))
    assert feed(scan, data[: data.index(b"OWN-1")]) == b""
    assert feed(scan, data[data.index(b"OWN-1") :]) != b""


def test_files_leave_as_they_come() -> None:
    """What is held is bounded by the head of one instance, not by the instance."""
    scan = archive()
    data = body(part(instance(1, 1_000_000), length=False))
    sizes = [len(feed(scan, data[start : start + 10_000])) for start in range(0, len(data), 10_000)]
    assert all(size >= 9_000 for size in sizes[:-1])


def test_a_number_that_comes_later_is_waited_for() -> None:
    """Behind the header that is checked, another piece may have to come for the name."""
    made = dataset(PatientID="OWN-1", SeriesNumber=2, InstanceNumber=77)
    made.StudyID = "s" * 16
    data = body(part(encoded(made)))
    assert list(files(run(data, [data.index(b"s" * 16)]))) == ["DICOM/0002-CT/0077.dcm"]


def test_without_verification_it_is_a_zip_as_well() -> None:
    """``pacs.verify_instances`` off: whatever the parts are."""
    scan = ZipArchive(BOUNDARY, *PARTS_OF, None)
    out = b"".join(
        feed(scan, one) for one in (body(part(ONE), part(b"x" * 500), part(b"", length=False)),)
    )
    scan.end()
    assert list(files(out + b"".join(scan.directory())).values()) == [ONE, b"x" * 500, b""]


@pytest.mark.parametrize("length", [True, False])
def test_zip64_is_for_files_that_may_need_it(length: bool) -> None:
    """Some readers do not know it, others look at each file's own header."""
    whole = run(body(part(ONE, length=length)), [])
    assert int.from_bytes(whole[4:6], "little") == (20 if length else 45)


@pytest.mark.parametrize("number", [2_000, pytest.param(66_000, marks=pytest.mark.exhaustive)])
def test_many_files(number: int) -> None:
    """The directory in blocks, for more than 65,535 files ZIP64's own."""
    scan, out = ZipArchive(BOUNDARY, *PARTS_OF, None), io.BytesIO()
    some = part(b"x")[2:] + b"\r\n"
    for count in itertools.repeat(1_000, number // 1_000):
        out.write(feed(scan, some * count))
    out.write(feed(scan, b"--" + BOUNDARY.encode() + b"--"))
    assert (scan.end(), scan.parts) == (b"", number)
    blocks = scan.directory()
    assert max(map(len, blocks)) <= 2**16
    out.write(b"".join(blocks))
    assert len(set(ZipFile(out).namelist())) == number


@pytest.mark.exhaustive
@pytest.mark.parametrize("length", [True, False])
def test_a_file_of_more_than_four_gigabytes(tmp_path: Path, length: bool) -> None:
    """And one behind it, whose place needs more than 32 bits."""
    zeros, times = bytes(2**20), 4_095
    made = dataset(
        PatientID="OWN-1", SeriesNumber=2, InstanceNumber=1, BitsAllocated=8, PixelData=b"\1\1"
    )
    written = encoded(made)
    tail = b"\xfc\xff\xfc\xffOB\0\0" + (2**20 * 3).to_bytes(4, "little")
    written = written[:-6] + (times * 2**20).to_bytes(4, "little")
    size = len(written) + times * 2**20 + len(tail) + 3 * 2**20
    assert size > 2**32
    head = b"Content-Type: application/dicom\r\n" + (
        b"Content-Length: %d\r\n" % size if length else b""
    )
    opening = b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n"

    def chunks() -> Iterator[bytes]:
        yield opening + written
        yield from itertools.repeat(zeros, times)
        yield tail
        yield from itertools.repeat(zeros, 3)
        yield body(part(TWO), lead=True)

    scan, file = archive(), tmp_path / "large.zip"
    with file.open("wb") as out:
        for chunk in chunks():
            passed = feed(scan, chunk)
            if bytes(passed) == zeros:
                out.seek(2**20, 1)  # A hole: the file takes no room.
            else:
                out.write(passed)
        assert scan.end() == b""
        out.write(b"".join(scan.directory()))
    with ZipFile(file) as opened:
        assert [one.file_size for one in opened.infolist()] == [size, len(TWO)]
        assert opened.read("DICOM/0002-CT/0002.dcm") == TWO
        assert opened.testzip() is None


def test_the_check_sees_each_instance() -> None:
    seen: list[InstanceHeader] = []
    scan = ZipArchive(BOUNDARY, *PARTS_OF, seen.append)
    feed(scan, body(part(ONE), part(FOREIGN), part(TWO)))
    assert [one.patient.patient_id for one in seen] == ["OWN-1", "FOREIGN-1", "OWN-1"]
