"""The catalog in a file: the same answers as in memory, kept over restarts, shared by processes."""

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.catalog import sqlite
from sidecar.fhir.catalog.catalog import Catalog, MemoryStore
from sidecar.fhir.catalog.sqlite import SqliteStore
from tests.fhir.observing import observe
from tests.fhir.rows import row
from tests.fhir.stores import exchange_at_once

fingerprints = st.dictionaries(
    st.sampled_from(["1.1", "1.2", "1.3"]), st.sampled_from([b"a", b"b"])
)
lists = st.lists(
    st.tuples(st.sampled_from(["p1", "p2"]), fingerprints, st.integers(1, 2**40)), max_size=12
)


@given(lists)
def test_it_answers_as_the_memory_does(steps: list[tuple[str, dict[str, bytes], int]]) -> None:
    memory, file = MemoryStore(), SqliteStore(Path(":memory:"))
    for patient, seen, moment in steps:
        assert file.exchange(patient, seen, moment) == memory.exchange(patient, seen, moment)
    file.close()


def test_it_outlives_a_restart_and_names_nobody(tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite"
    rows = [row(StudyInstanceUID="1.2.3", PatientID="MRN-secret")]
    first = Catalog(SqliteStore(file), clock=lambda: 1_000.0)
    seen = observe(first, "patient-secret", rows)
    first.close()
    again = Catalog(SqliteStore(file), clock=lambda: 2_000.0)
    assert observe(again, "patient-secret", rows) == seen
    again.close()
    assert b"secret" not in b"".join(one.read_bytes() for one in tmp_path.iterdir())


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    """Exchanges of one patient are serialized, and none ends with the error of a busy file."""
    results = exchange_at_once(lambda: SqliteStore(tmp_path / "catalog.sqlite"), steps=50)
    assert len(results) == 150
    assert (
        len({result["1.0"] for result in results}) == 1
    )  # Always there, always the same: seen once.


def test_processes_that_make_the_file_at_the_same_time(tmp_path: Path) -> None:
    """SQLite reports a busy file at once, where one of them turns the write-ahead log on."""
    file = tmp_path / "catalog.sqlite"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.2, other.close)
    ends.start()
    SqliteStore(file).close()
    ends.join()


def test_a_file_that_stays_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
    file = tmp_path / "catalog.sqlite"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="locked"):
            SqliteStore(file)


def test_a_file_that_is_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not left open either."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def spy(*arguments: Any, **named: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", spy)
    file = tmp_path / "catalog.sqlite"
    file.write_text("not one" * 1_000)
    with pytest.raises(OSError, match="SQLite"):
        SqliteStore(file)
    (one,) = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        one.execute("SELECT 1")
    with pytest.raises(OSError, match=r"SQLite.*its folder is not there"):
        SqliteStore(tmp_path / "absent" / "catalog.sqlite")


def test_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite"
    store = SqliteStore(file)
    other = sqlite3.connect(file)
    other.execute("DROP TABLE seen")
    other.close()
    with pytest.raises(OSError, match="cannot be written"):
        store.exchange("p", {"1.2": b"x"}, 1)
    store.close()


def test_a_file_that_is_read_only_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the service would start, be ready, and answer each search with 503."""
    file, connect = tmp_path / "catalog.sqlite", sqlite3.connect
    SqliteStore(file).close()
    # Root may write whatever the mode of a file says.
    monkeypatch.setattr(
        "sqlite3.connect",
        lambda name, **named: connect(f"{name.as_uri()}?mode=ro", uri=True, **named),
    )
    with pytest.raises(OSError, match="readonly"):
        SqliteStore(file)


def test_a_list_that_has_not_changed_waits_for_no_writer(tmp_path: Path) -> None:
    """Most lists have not: the workers of a host would wait for one another."""
    store = SqliteStore(tmp_path / "catalog")
    assert store.exchange("p", {"1.2": b"a"}, 7) == {"1.2": 7}
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert store.exchange("p", {"1.2": b"a"}, 8) == {"1.2": 7}
        writer.execute("ROLLBACK")
    store.close()
