"""The file of the retry queue: what it holds, and what it does not take from others (SIA-60)."""

import json
from pathlib import Path
from typing import Any

from sidecar.audit.retry_queue import RetryQueue
from sidecar.audit.spool import ASIDE
from sidecar.audit.spool_reader import Waiting


def waiting(number: int) -> Waiting:
    line = json.dumps(
        {"resourceType": "AuditEvent", "number": number}, separators=(",", ":")
    ).encode()
    return Waiting(
        "00000000000000000001-aa.jsonl", number * 100, number * 100 + len(line) + 1, line
    )


def test_what_is_no_line_of_ours_is_left_out(tmp_path: Path) -> None:
    aside = RetryQueue(tmp_path, lambda failures: 0)
    for number in range(3):
        aside.add(waiting(number))
    assert aside.unsaved == {"00000000000000000001-aa.jsonl"}
    aside.save()
    assert aside.unsaved == frozenset()
    assert (tmp_path / ASIDE).stat().st_mode & 0o777 == 0o600
    with (tmp_path / ASIDE).open("ab") as file:
        file.write(
            b'{"segment":"x","begin":1,"tries":Infinity,"event":{}}\n' + b"[" * 100_000 + b"\n"
        )
        file.write(
            b'[]\n{}\n{"segment":"x","begin":"y","tries":0,"event":{}}\nnull\n{"segment":"0000'
        )
    again = RetryQueue(tmp_path, lambda failures: 0)
    again.load()
    assert [one.event for one in again.due()] == [waiting(number) for number in range(3)]


def test_no_link_in_its_place_is_written_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    (tmp_path / (ASIDE + ".new")).symlink_to(elsewhere)
    (tmp_path / ASIDE).symlink_to(elsewhere)
    aside = RetryQueue(tmp_path, lambda failures: 0)
    aside.load()
    assert not len(aside)
    aside.add(waiting(1))
    aside.save()
    assert elsewhere.read_text() == "theirs"


def test_tries_count_while_others_are_taken_alone(tmp_path: Path) -> None:
    now = 0.0
    aside = RetryQueue(tmp_path, float, clock=lambda: now)
    aside.add(waiting(1))
    (one,) = aside.due()
    counted: list[Any] = [aside.failed(one, taken=taken) for taken in (1, 1, 1, 2, 2, 5)]
    assert counted == [1, 1, 1, 2, 2, 3]
    assert aside.wait_seconds() == 6
    assert not list(aside.due())
    now = 6
    assert list(aside.due()) == [one]
    aside.remove(one)
    assert aside.wait_seconds() == float("inf")
