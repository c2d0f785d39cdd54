"""The spool: in order, bounded, outliving the process, and nothing delivered twice."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.backlog import Backlog, SpooledEvent
from sidecar.audit.spool import LOCK, PROGRESS, REJECTED, Spool, progress, segments
from tests.audit.spools import ROOM, lines, reader_of


@given(
    actions=st.lists(
        st.sampled_from(["write", "deliver", "read again", "next writer", "two writers"]),
        max_size=40,
    )
)
def test_each_event_comes_once_and_in_order(
    actions: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whoever writes and reads, one after the other; segments of some lines."""
    folder = tmp_path_factory.mktemp("spool")
    spool, reader = Spool(folder, max_bytes=1_000), Backlog(folder)
    reader.lock()
    written, delivered = list[bytes](), list[bytes]()
    for action in actions:
        if action in ("write", "two writers"):
            other = spool if action == "write" else Spool(folder, max_bytes=1_000)
            written.append(b'{"number":%d}' % len(written))
            other.write(written[-1] + b"\n")
            if other is not spool:
                spool.close()
                spool = other
        elif action == "deliver":
            found = reader.next(2)
            delivered += [one.line for one in found]
            reader.done(found)
            reader.save()
        elif action == "read again":
            reader.close()
            reader = reader_of(folder)
        else:
            spool.close()
            spool = Spool(folder, max_bytes=1_000)
        assert reader.measure()[0] == sum(len(line) + 1 for line in written[len(delivered) :])
    delivered += lines(reader)
    assert delivered == written
    reader.close()
    spool.close()


def test_only_we_may_read_it(tmp_path: Path) -> None:
    """Patients are named there."""
    folder = tmp_path / "new" / "spool"
    spool = Spool(folder, max_bytes=ROOM)
    spool.write(b"{}\n")
    reader = reader_of(folder)
    reader.reject(reader.next(1)[0])
    reader.done(reader.next(1))
    reader.save()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in (REJECTED, LOCK, next(iter(segments(folder)))):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


def test_what_was_delivered_is_removed_when_nobody_writes_there(tmp_path: Path) -> None:
    spool, reader = Spool(tmp_path, max_bytes=ROOM), reader_of(tmp_path)
    spool.write(b"{}\n")
    reader.done(reader.next(9))
    reader.save()
    assert len(segments(tmp_path)) == 1
    spool.close()
    reader.save()
    assert segments(tmp_path) == {}
    assert progress(tmp_path) == ({}, [])


KILLED = """
import os, signal, sys
from pathlib import Path
from sidecar.audit.spool import Spool
spool = Spool(Path(sys.argv[1]), max_bytes=2**30)
for number in range(500):
    spool.write(b'{"number":%d}\\n' % number)
    print(number, flush=True)
os.write(spool._descriptor, b'{"number":')
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_that_it_had_written(tmp_path: Path) -> None:
    """Of a line that was not whole, nobody had an answer."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == -9
    assert done.stdout.split()[-1] == "499"
    reader = reader_of(tmp_path)
    assert lines(reader) == [b'{"number":%d}' % number for number in range(500)]
    spool = Spool(tmp_path, max_bytes=ROOM)
    spool.write(b'{"number":500}\n')
    reader.done(reader.next(1_000))
    reader.save()
    assert lines(reader) == []
    assert len(segments(tmp_path)) == 1  # The new writer's.


def test_a_crash_before_the_position_is_kept_tells_twice_rather_than_not(tmp_path: Path) -> None:
    spool, reader = Spool(tmp_path, max_bytes=ROOM), reader_of(tmp_path)
    spool.write(b"{}\n")
    reader.done(reader.next(1))
    reader.save()
    (tmp_path / PROGRESS).write_text("[torn")
    reader.close()
    assert lines(reader_of(tmp_path)) == [b"{}"]


def test_one_delivers_at_a_time(tmp_path: Path) -> None:
    Spool(tmp_path, max_bytes=ROOM)
    first, second = Backlog(tmp_path), Backlog(tmp_path)
    first.lock()
    with pytest.raises(BlockingIOError):
        second.lock()
    assert not second.is_locked
    first.close()
    second.lock()
    assert second.is_locked


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Who may write into the folder by mistake must not have us read, write or remove elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.jsonl").write_text("foreign\n")
    folder = tmp_path / "spool"
    spool = Spool(folder, max_bytes=ROOM)
    reader = reader_of(folder)
    (folder / "00000000000000000001-aa.jsonl").symlink_to(outside / "1.jsonl")
    (folder / "00000000000000000002-aa.jsonl").mkdir()
    (folder / REJECTED).symlink_to(outside / "new")
    (folder / (PROGRESS + ".new")).symlink_to(outside / "1.jsonl")
    spool.write(b"1\n")
    found = reader.next(9)
    assert [one.line for one in found] == [b"1"]
    with pytest.raises(OSError, match="symbolic"):
        reader.reject(found[0])
    spool.close()
    reader.done(found)
    reader.save()
    assert {one.name: one.read_text() for one in outside.iterdir()} == {"1.jsonl": "foreign\n"}


def test_what_a_process_left_that_was_killed_before_its_first_line_is_removed(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, max_bytes=ROOM)
    (tmp_path / "00000000000000000001-aa.jsonl").touch()
    spool.write(b"1\n")
    reader = reader_of(tmp_path)
    reader.save()
    assert len(segments(tmp_path)) == 1
    assert lines(reader) == [b"1"]


@pytest.mark.parametrize("when", ["opened", "locked by the reader", "removed"])
def test_a_segment_that_is_taken_for_a_finished_one_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Another process looks at it after it is made, and before its writer has locked it."""
    spool, reader = Spool(tmp_path, max_bytes=ROOM), reader_of(tmp_path)
    flock, looks = fcntl.flock, 0

    def meanwhile(file: int, operation: int) -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            flock(file, operation)
        elif when == "locked by the reader":
            with (tmp_path / next(iter(segments(tmp_path)))).open("r+b") as other:
                flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                flock(file, operation)
        else:
            if when == "removed":
                reader.save()
            flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    spool.write(b"1\n")
    assert lines(reader) == [b"1"]
    reader.save()
    assert len(segments(tmp_path)) == 1


def test_a_segment_that_somebody_removed_is_begun_anew(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=ROOM)
    spool.write(b"1\n")
    (tmp_path / next(iter(segments(tmp_path)))).unlink()
    spool.write(b"2\n")
    assert lines(reader_of(tmp_path)) == [b"2"]


def test_half_a_line_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full for a moment: what could not be written was refused."""
    spool = Spool(tmp_path, max_bytes=ROOM)
    spool.write(b"1\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    with pytest.raises(OSError, match="whole"):
        spool.write(b"half\n")
    monkeypatch.undo()
    spool.write(b"2\n")
    reader = reader_of(tmp_path)
    assert lines(reader) == [b"1", b"2"]
    reader.done(reader.next(9))
    reader.save()
    assert len(segments(tmp_path)) == 1


@pytest.mark.parametrize(("most", "found"), [(0, 1), (1, 1), (2, 2), (9, 3)])
def test_what_goes_in_one_request_is_bounded(tmp_path: Path, most: int, found: int) -> None:
    spool, reader = Spool(tmp_path, max_bytes=ROOM), reader_of(tmp_path)
    for _ in range(3):
        spool.write(b"x\n")
    assert len(lines(reader, most)) == found


def test_odd_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("mine\n")
    reader = reader_of(tmp_path)
    assert lines(reader) == []
    reader.reject(SpooledEvent("x", 0, b"{}"))
    reader.save()
    assert {one.name for one in tmp_path.iterdir()} == {"notes.jsonl", LOCK, REJECTED}


def test_locks_are_such_as_nfs_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS locks ranges: shared needs a file open for reading, exclusive for writing (flock(2))."""
    flock = fcntl.flock

    def nfs(descriptor: int, operation: int) -> None:
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if (operation & fcntl.LOCK_SH and mode == os.O_WRONLY) or (
            operation & fcntl.LOCK_EX and mode == os.O_RDONLY
        ):
            raise OSError(errno.EBADF, "bad file descriptor")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", nfs)
    spool = Spool(tmp_path, max_bytes=10_000, when_full="drop_oldest")
    for number in range(30):
        spool.write(b"%03d %s\n" % (number, b" " * 990))
    reader = reader_of(tmp_path)
    reader.done(reader.next(3))
    reader.save()
    assert lines(reader)[-1].startswith(b"029")


def test_a_segment_that_cannot_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    spool = Spool(tmp_path, max_bytes=10_000)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", never)
        for _ in range(3):
            with pytest.raises(OSError, match="no locks"):
                spool.write(b"x\n")
    assert list(tmp_path.iterdir()) == []
    spool.write(b"1\n")
    assert lines(reader_of(tmp_path)) == [b"1"]


def test_a_clock_that_was_put_back_before_a_restart_changes_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    for number, ahead in enumerate((0, -3_600, 10, -7_200)):
        monkeypatch.setattr(time, "time_ns", lambda ahead=ahead: now + ahead * 10**9)
        spool = Spool(tmp_path, max_bytes=10_000)
        spool.write(b"%d\n" % number)
        spool.close()
    assert lines(reader_of(tmp_path)) == [b"0", b"1", b"2", b"3"]


def test_a_flush_that_fails_hides_nothing_from_who_has_read_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have read the line of a refused request; the next line follows it."""
    spool, reader = Spool(tmp_path, max_bytes=ROOM, sync=True), reader_of(tmp_path)
    spool.write(b"1\n")

    def read_and_fail(descriptor: int) -> None:
        reader.done(reader.next(9))
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", read_and_fail)
        with pytest.raises(OSError, match="output"):
            spool.write(b"refused\n")
    spool.write(b"3\n")
    spool.write(b"4\n")
    assert lines(reader) == [b"3", b"4"]


def test_each_line_is_on_the_disk_with_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    spool = Spool(tmp_path, max_bytes=ROOM, sync=True)
    spool.write(b"1\n")
    spool.write(b"2\n")
    assert len(synced) == 2
