"""A spool, or its disk, that is full: events are refused or dropped, and counted (SIA-60)."""

import errno
import os
import time
from pathlib import Path

import pytest

from sidecar.audit.backlog import Backlog, SpooledEvent
from sidecar.audit.delivery import _MOST_RETRIES
from sidecar.audit.sinks import write_whole
from sidecar.audit.spool import REJECTED, Spool, segments
from tests.audit.spools import lines, reader_of


def test_a_full_spool_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on by itself when there is room, a tenth of a second later."""
    spool, reader = Spool(tmp_path, max_bytes=1_000), reader_of(tmp_path)
    line = b"{%s}\n" % (b" " * 97)
    for _ in range(10):
        spool.write(line)
    with pytest.raises(OSError, match="full") as refusal:
        spool.write(line)
    assert refusal.value.errno == errno.ENOSPC
    reader.done(reader.next(10))
    reader.save()
    reader.save()
    later = time.monotonic() + 0.11
    monkeypatch.setattr(time, "monotonic", lambda: later)
    spool.write(line)
    assert lines(reader) == [line[:-1]]


def test_a_storm_of_refusals_does_not_list_the_folder_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, looks = Spool(tmp_path, max_bytes=1_000), 0

    def counted(folder: Path) -> dict[str, int]:
        nonlocal looks
        looks += 1
        return segments(folder)

    spool.write(b"x" * 999 + b"\n")
    monkeypatch.setattr("sidecar.audit.spool.segments", counted)
    started = time.monotonic()
    for _ in range(1_000):
        with pytest.raises(OSError, match="full"):
            spool.write(b"x\n")
    assert looks <= 2 + (time.monotonic() - started) / 0.1


def test_a_disk_that_is_full_of_other_things_is_no_reason_to_drop_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``drop_oldest`` gives room on the disk, too, whatever ``max_bytes`` says."""
    seen: list[str] = []
    spool = Spool(tmp_path, max_bytes=8_000, when_full="drop_oldest", observe=seen.append)

    def small_disk(descriptor: int, line: bytes) -> None:
        if sum(one.stat().st_size for one in tmp_path.iterdir()) + len(line) > 3_000:
            raise OSError(errno.ENOSPC, "no space left on device")
        write_whole(descriptor, line)

    monkeypatch.setattr("sidecar.audit.spool.write_whole", small_disk)
    monkeypatch.setattr("sidecar.audit.spool._DROP_SECONDS", 0)
    for number in range(20):
        spool.write(b"%02d %s\n" % (number, b" " * 896))
    assert [int(line[:2]) for line in lines(reader_of(tmp_path))] == [17, 18, 19]
    assert seen == ["dropped"] * 17


def test_a_full_disk_with_nothing_to_drop_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    spool = Spool(tmp_path, max_bytes=8_000, when_full="drop_oldest", sync=True)
    monkeypatch.setattr(os, "fdatasync", no_room)
    for _ in range(3):
        with pytest.raises(OSError, match="space"):
            spool.write(b"x\n")
    monkeypatch.undo()
    spool.write(b"1\n")
    assert lines(reader_of(tmp_path)) == [b"1"]


def test_where_room_does_not_help_little_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    spool = Spool(tmp_path, max_bytes=400_000, when_full="drop_oldest", observe=seen.append)
    for _ in range(20):
        spool.write(b"x" * 9_999 + b"\n")
        spool.close()
    kept = len(segments(tmp_path))

    def no_room(descriptor: int, line: bytes) -> None:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr("sidecar.audit.spool.write_whole", no_room)
    with pytest.raises(OSError, match="quota"):
        spool.write(b"x\n")
    assert kept == 20
    assert seen == ["dropped"]


def test_or_gives_up_the_oldest_and_counts_them(tmp_path: Path) -> None:
    seen: list[str] = []
    spool = Spool(tmp_path, max_bytes=1_000, when_full="drop_oldest", observe=seen.append)
    for number in range(100):
        spool.write(b"%03d %s\n" % (number, b" " * 95))
    kept = lines(reader_of(tmp_path))
    assert 5 <= len(kept) <= 10
    assert [int(line[:3]) for line in kept] == list(range(100 - len(kept), 100))
    assert seen == ["dropped"] * (100 - len(kept))


def test_of_what_was_delivered_nothing_counts_as_dropped(tmp_path: Path) -> None:
    seen: list[str] = []
    spool = Spool(tmp_path, max_bytes=800, when_full="drop_oldest", observe=seen.append)
    spool._segment_bytes = 100
    reader = reader_of(tmp_path)
    line = b"%s\n" % (b" " * 49)
    spool.write(line)
    spool.write(line)
    reader.done(reader.next(1))
    reader.save()
    for _ in range(15):
        spool.write(line)
    assert len(seen) == 1


def test_what_was_rejected_takes_room_and_is_given_up_first(tmp_path: Path) -> None:
    """A repository that takes nothing at all cannot fill the disk."""
    seen: list[str] = []
    line = b"%s\n" % (b" " * 99)
    for when_full in ("refuse", "drop_oldest"):
        folder = tmp_path / when_full
        spool = Spool(folder, max_bytes=1_000, when_full=when_full, observe=seen.append)
        reader = reader_of(folder)
        for _ in range(9):
            spool.write(line)
            (found,) = reader.next(1)
            reader.reject(found)
            reader.done([found])
            reader.save()
        spool.close()
        reader.save()
        spool.write(line)
        if when_full == "refuse":
            with pytest.raises(OSError, match="full"):
                spool.write(line)
            assert len((folder / REJECTED).read_bytes().splitlines()) == 9
        else:
            spool.write(line)
            assert not (folder / REJECTED).exists()
            assert seen == []  # They were counted when they were rejected.
            assert len(lines(reader)) == 2


def test_what_has_happened_already_has_some_room_left(tmp_path: Path) -> None:
    """Refusing the end of a running transfer helps nobody. But that room is bounded, too."""
    spool = Spool(tmp_path, max_bytes=1_000)

    def fill(line: bytes, *, late: bool) -> None:
        for _ in range(40):
            spool.write(line, late=late)

    with pytest.raises(OSError, match="full"):
        fill(b"x" * 99 + b"\n", late=False)
    before = len(lines(reader_of(tmp_path)))
    for _ in range(5):
        spool.write(b"y" * 99 + b"\n", late=True)
    assert len(lines(Backlog(tmp_path))) == before + 5
    with pytest.raises(OSError, match="full"):
        spool.write(b"x\n")
    with pytest.raises(OSError, match="full"):
        fill(b"z" * 2**20 + b"\n", late=True)
    assert sum((tmp_path / name).stat().st_size for name in segments(tmp_path)) < 1_000 + 17 * 2**20


def test_a_disk_that_others_fill_at_once_costs_little_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take the room that is made: not all waiting events are dropped in a moment."""
    seen: list[str] = []
    spool = Spool(tmp_path, max_bytes=1_000_000, when_full="drop_oldest", observe=seen.append)
    for _ in range(50):
        spool.write(b"x" * 99 + b"\n")
        spool.close()

    def no_room(descriptor: int, line: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("sidecar.audit.spool.write_whole", no_room)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(20):
        with pytest.raises(OSError, match="space"):
            spool.write(b"x\n")
    assert len(seen) == 1
    now += 0.5
    with pytest.raises(OSError, match="space"):
        spool.write(b"x\n")
    assert len(seen) == 2


def test_a_large_spool_has_no_more_files_than_a_small_one(tmp_path: Path) -> None:
    """They are listed each second. And the retries, a segment each, hold an eighth of the room."""
    for max_bytes in (2**26, 2**30, 2**36):
        segment_bytes = Spool(tmp_path, max_bytes=max_bytes)._segment_bytes
        assert max_bytes / segment_bytes <= 2_048
        assert _MOST_RETRIES * segment_bytes <= max_bytes / 8


def test_half_a_line_in_rejected_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for a moment, and takes a part."""
    Spool(tmp_path, max_bytes=1_000)
    reader, write = reader_of(tmp_path), os.write
    reader.reject(SpooledEvent("x", 0, b'{"number":1}'))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        with pytest.raises(OSError, match="whole"):
            reader.reject(SpooledEvent("x", 0, b'{"number":2}'))
    reader.reject(SpooledEvent("x", 0, b'{"number":3}'))
    assert (tmp_path / REJECTED).read_bytes() == b'{"number":1}\n{"number":3}\n'


def test_what_a_writer_has_is_not_dropped(tmp_path: Path) -> None:
    """It may append to it; the next older one goes."""
    seen: list[str] = []
    others = [Spool(tmp_path, max_bytes=1_000) for _ in range(2)]
    for other in others:
        other._segment_bytes = 1_000
        other.write(b"%s\n" % (b"o" * 399))
    others[1].close()
    spool = Spool(tmp_path, max_bytes=1_000, when_full="drop_oldest", observe=seen.append)
    spool.write(b"%s\n" % (b"m" * 399))
    assert [line[:1] for line in lines(reader_of(tmp_path))] == [b"o", b"m"]
    others[0].write(b"o\n")
    assert [line[:1] for line in lines(Backlog(tmp_path))] == [b"o", b"o", b"m"]
    assert seen == ["dropped"]
