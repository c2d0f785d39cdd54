"""Headers known from the instances before change nothing of what is read (SIA-42)."""

from collections.abc import Iterable
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dicom.element import Unreadable
from sidecar.dicom.header_cache import MAXIMUM_CANDIDATES, MAXIMUM_PATTERNS, HeaderPatternCache
from sidecar.dicom.instance_header import HeaderReader
from tests.dicom.series import SYNTAXES, changed, changes, series
from tests.dicom_instances import dataset, encoded

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


def read(data: bytes, patterns: HeaderPatternCache | None, steps: Iterable[int] = ()) -> object:
    """Return the header, or the error, of data in pieces of these sizes; the rest comes at once."""
    reader, position = HeaderReader(patterns), 0
    try:
        for step in [*steps, len(data) + 1]:
            piece = data[position : position + step]
            passed = reader.pass_over(len(piece)) if position else 0
            list(reader.steps(piece[passed:]))
            position += step
        return reader.end()
    except Unreadable as error:
        return type(error), str(error)


@given(
    syntax=st.sampled_from(SYNTAXES),
    known=st.lists(st.integers(0, 11), max_size=6),
    number=st.integers(0, 11),
    changes=changes,
    steps=st.lists(st.integers(1, 900), max_size=4),
)
def test_an_instance_is_read_as_if_it_were_the_first(
    syntax: str,
    known: list[int],
    number: int,
    changes: list[tuple[float, str, bytes]],
    steps: list[int],
) -> None:
    """Whatever came before it, however it was damaged, in whatever pieces it comes."""
    patterns = HeaderPatternCache()
    for one in known:
        read(series(syntax)[one], patterns)
    data = changed(series(syntax)[number], changes)
    assert read(data, patterns, steps) == read(data, None, steps)


@given(data=st.data())
def test_every_single_byte_counts_as_before(data: st.DataObject) -> None:
    """The same instance again, with one byte of another value."""
    syntax = data.draw(st.sampled_from(SYNTAXES))
    good = series(syntax)[data.draw(st.integers(0, 11))]
    patterns = HeaderPatternCache()
    read(good, patterns)
    damaged = bytearray(good)
    damaged[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    assert read(bytes(damaged), patterns) == read(bytes(damaged), None)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_cut_anywhere(syntax: str) -> None:
    good, patterns = series(syntax)[4], HeaderPatternCache()
    read(good, patterns)
    for end in range(len(good)):
        assert read(good[:end], patterns) == read(good[:end], None), end


def test_the_files_of_the_library_one_behind_the_other() -> None:
    """Odd ones among them."""
    patterns = HeaderPatternCache()
    files = sorted(
        file for file in BUNDLED.rglob("*") if file.is_file() and file.stat().st_size < 400_000
    )
    for file in (*files, *reversed(files)):
        assert read(file.read_bytes(), patterns, [16_384]) == read(file.read_bytes(), None), (
            file.name
        )


def test_the_next_instance_is_not_walked_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Element by element, that is: a failure here is a slow sidecar, not a wrong one."""
    patterns = HeaderPatternCache()
    first, second = (
        encoded(dataset(PatientID=patient, Manufacturer="ACME", KVP="120", PatientSex="F"))
        for patient in ("P-1", "P-2")
    )
    expected = read(second, None)
    read(first, patterns)
    steps: list[str] = []
    for name in ("_read_short", "_step"):
        monkeypatch.setattr(
            f"sidecar.dicom.dataset_walker.Walk.{name}", lambda *_: steps.append("x")
        )
    assert read(second, patterns) == expected
    assert steps == []


def test_what_is_remembered_is_bounded_and_holds_no_values() -> None:
    """Thousands of instances, each laid out in its own way."""
    patterns = HeaderPatternCache()
    for number in range(600):
        one = dataset(
            PatientID="SECRET",
            Manufacturer="M" * (2 * (number % 25)),
            KVP="1" * (2 * (number // 25 % 7)),
        )
        one.StudyDescription = "D" * (2 * (number % 11))
        read(encoded(one), patterns)
    runs = [run for known in patterns._runs.values() for run in known]
    assert len(runs) + len(patterns._headers) + len(patterns._metas) <= MAXIMUM_PATTERNS
    assert all(len(known) <= MAXIMUM_CANDIDATES for known in patterns._runs.values())
    pieces = [one.pattern for known in (runs, patterns._headers, patterns._metas) for one in known]
    assert b"SECRET" not in b"".join(piece for pattern in pieces for piece in pattern._expected)


def test_headers_that_never_match_are_given_up() -> None:
    patterns = HeaderPatternCache()
    for number in range(60):
        read(
            encoded(dataset(PatientID="P" * (number + 1), Manufacturer="M" * (60 - number))),
            patterns,
        )
    assert not patterns._headers
    assert not patterns.has_room_for_header
