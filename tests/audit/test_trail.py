"""The sinks, and what happens when one cannot be written to."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from sidecar.access.facts import Token
from sidecar.audit.event import AuditSource
from sidecar.audit.record import AccessRecord
from sidecar.audit.sinks import FileSink, StdoutSink
from sidecar.audit.trail import AuditTrail
from sidecar.common.errors import Unavailable

SOURCE = AuditSource("test", "https://ehr.example.org/fhir", "https://imaging.example.org/fhir")


def record() -> AccessRecord:
    return AccessRecord(
        "r1", token=Token((), 9e9, patient="p1"), token_hash="h", patient="p1", route="wado-rs"
    )


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_file_is_appended_to_and_followed_by_name(tmp_path: Path) -> None:
    """As logrotate moves it, and also when somebody removes it."""
    file = tmp_path / "audit.jsonl"
    sink = FileSink(file)
    trail = AuditTrail(sink, SOURCE, b"key")
    trail.permitted(record())
    assert file.stat().st_mode & 0o007 == 0
    file.rename(tmp_path / "audit.jsonl.1")
    trail.answered(record(), 200)
    file.unlink()
    trail.answered(record(), 502)
    sink.close()
    assert [one["outcome"] for one in lines(tmp_path / "audit.jsonl.1")] == ["0"]
    assert [one["outcome"] for one in lines(file)] == ["8"]
    again = FileSink(file)
    AuditTrail(again, SOURCE, b"key").answered(record(), 404)
    again.close()
    assert [one["outcome"] for one in lines(file)] == ["8", "4"]


def test_nothing_is_lost_when_it_is_moved_while_several_processes_write(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    sinks = [FileSink(file) for _ in range(3)]
    for number in range(300):
        if number % 7 == 0:
            file.rename(tmp_path / f"audit.jsonl-{number}")
        sinks[number % 3].write(b"%d\n" % number)
    for sink in sinks:
        sink.close()
    written = [int(line) for one in tmp_path.iterdir() for line in one.read_text().splitlines()]
    assert sorted(written) == list(range(300))


def test_standard_output_takes_whole_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    AuditTrail(StdoutSink(), SOURCE, b"key").answered(record(), 200)
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert json.loads(line)["resourceType"] == "AuditEvent"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_a_refusal() -> None:
    seen: list[str] = []
    sink = FileSink(Path("/dev/full"))
    trail = AuditTrail(sink, SOURCE, b"key", observe=seen.append)
    with pytest.raises(Unavailable) as refusal:
        trail.permitted(record())
    assert (refusal.value.status, refusal.value.reason, seen) == (503, "audit", ["failed"])
    sink.close()


def test_a_token_is_a_keyed_hash() -> None:
    first, second = (AuditTrail(StdoutSink(), SOURCE, key) for key in (b"1", b"2"))
    assert first.token_hash("token") == first.token_hash("token") != second.token_hash("token")
    assert first.token_hash("token") != first.token_hash("token2")
    assert len(first.token_hash("token")) == 32


def test_without_a_token_there_is_nothing_to_tell(tmp_path: Path) -> None:
    """Probes and open documents do not fill the disk."""
    file = tmp_path / "audit.jsonl"
    sink = FileSink(file)
    AuditTrail(sink, SOURCE, b"key").answered(AccessRecord("r1"), 401)
    sink.close()
    assert os.stat(file).st_size == 0


def test_half_a_line_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full: what is written afterwards can be read."""
    file = tmp_path / "audit.jsonl"
    sink = FileSink(file)
    trail = AuditTrail(sink, SOURCE, b"key")
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2])
    )
    with pytest.raises(Unavailable):
        trail.answered(record(), 200)
    monkeypatch.undo()
    trail.answered(record(), 404)
    sink.close()
    _, whole = file.read_text().splitlines()
    assert json.loads(whole)["outcome"] == "4"


def test_a_file_that_comes_back_is_used_again(tmp_path: Path) -> None:
    """Moved away with its folder, and back."""
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(folder / "audit.jsonl")
    trail = AuditTrail(sink, SOURCE, b"key")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        trail.answered(record(), 200)
    (tmp_path / "elsewhere").rename(folder)
    trail.answered(record(), 200)
    sink.close()
    assert len(lines(folder / "audit.jsonl")) == 1


def test_a_collector_that_does_not_read_stops_nobody() -> None:
    """The pipe is full: a refusal at once, not a wait of the whole process."""
    reading, writing = os.pipe()
    trail = AuditTrail(StdoutSink(writing), SOURCE, b"key")

    def fill() -> None:
        for _ in range(1_000):
            trail.answered(record(), 200)

    with pytest.raises(Unavailable):
        fill()
    assert len(os.read(reading, 2**20)) > 10_000
    os.close(reading)
    os.close(writing)


def test_a_token_that_is_none_is_told_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeating a bad token does not fill the disk; it is recorded again after a while."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    file = tmp_path / "audit.jsonl"
    sink = FileSink(file)
    trail = AuditTrail(sink, SOURCE, b"key")

    def tried(token_hash: str) -> None:
        trail.answered(
            AccessRecord("r1", token_hash=token_hash, route="wado-rs", reason="inactive_token"), 401
        )

    for token_hash in "a", "a", "b", "a":
        tried(token_hash)
    assert len(lines(file)) == 2
    for _ in range(60):  # Twice a minute.
        now += 30
        tried("a")
    sink.close()
    assert len(lines(file)) in (2 + 29, 2 + 30)


def test_what_could_not_be_written_was_not_told(tmp_path: Path) -> None:
    """Of a token that is none the next try is refused as well, until one can be told."""

    class Full:
        is_full = True
        written = 0

        def write(self, line: bytes, *, late: bool = False) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, "the spool is full")
            self.written += 1

    sink = Full()
    trail = AuditTrail(sink, SOURCE, b"key")
    one = AccessRecord("r1", token_hash="a", route="wado-rs", reason="inactive_token")
    for _ in range(3):
        with pytest.raises(Unavailable):
            trail.answered(one, 401)
    sink.is_full = False
    for _ in range(3):
        trail.answered(one, 401)
    assert sink.written == 1


@pytest.mark.parametrize("name", ["\ud800x", "a\u2028b\x85c", "山"])
def test_no_name_ends_a_line(name: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    sink = FileSink(file)
    one = record()
    one.token = Token((), 9e9, subject=name, client_id=name)
    AuditTrail(sink, SOURCE, b"key").answered(one, 200)
    sink.close()
    assert len(lines(file)) == 1
    assert file.read_bytes().isascii()


def test_half_a_line_of_a_process_that_was_ended_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b'{"n": 1}\n{"n')
    sink = FileSink(file)
    sink.write(b'{"n": 2}\n')
    sink.close()
    assert file.read_bytes().splitlines() == [b'{"n": 1}', b'{"n', b'{"n": 2}']
