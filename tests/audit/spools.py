"""A spool with little room, and what it has."""

from pathlib import Path

from sidecar.audit.spool_reader import SpoolReader

ROOM = 2**30


def reader_of(folder: Path) -> SpoolReader:
    reader = SpoolReader(folder)
    assert reader.lock()
    return reader


def lines(reader: SpoolReader, most: int = 1_000, most_bytes: int = ROOM) -> list[bytes]:
    return [one.line for one in reader.next(most, most_bytes)]
