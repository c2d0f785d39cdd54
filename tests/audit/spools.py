"""A spool with little room, and what it has."""

from pathlib import Path

from sidecar.audit.backlog import Backlog

ROOM = 2**30


def reader_of(folder: Path) -> Backlog:
    reader = Backlog(folder)
    reader.lock()
    return reader


def lines(reader: Backlog, most: int = 1_000) -> list[bytes]:
    return [one.line for one in reader.next(most)]
