"""Catalog in an SQLite file, which survives restarts and serves the processes of one machine."""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from sidecar.fhir.catalog.catalog import Seen, merge

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    patient BLOB NOT NULL, study TEXT NOT NULL, fingerprint BLOB NOT NULL, first INTEGER NOT NULL,
    PRIMARY KEY (patient, study)
) WITHOUT ROWID
"""
_BUSY_SECONDS = 5.0
_PAUSE_SECONDS = 0.01


class SqliteStore:
    """Store in ``file``, which is made if it does not exist. Patients are stored as hashes.

    Raises ``OSError`` when the file is no database, or cannot be written. Only one thread may use
    the store at a time.
    """

    threads = 1  # SQLite takes one writer at a time anyway.

    def __init__(self, file: Path) -> None:
        try:
            with contextlib.ExitStack() as stack:
                self._connection = sqlite3.connect(
                    file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                stack.callback(self._connection.close)  # Connecting succeeds whatever the file is.
                self._write_ahead()
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute(_SCHEMA)
                # Nothing so far writes to a database that is there already. BEGIN IMMEDIATE alone
                # reads one that cannot be written.
                self._connection.execute("DELETE FROM seen WHERE 0")
                stack.pop_all()
        except sqlite3.Error as error:
            why = str(error)
            if not os.access(file.parent, os.W_OK | os.X_OK):
                why = (
                    "its folder is not there, or this user cannot write to it; mend that, "
                    "or name another file: fhir.catalog.file, with fhir.catalog.store: sqlite"
                )
            raise OSError(0, f"cannot be used as an SQLite database: {why}", str(file)) from None

    def _write_ahead(self) -> None:
        # SQLite waits for every lock but this one, which all processes take that open a new file.
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def exchange(
        self, patient: str, fingerprints: Mapping[str, bytes], moment: int
    ) -> dict[str, int]:
        """As ``Store``, in one transaction. Raises ``OSError`` when the file cannot be written."""
        key = hashlib.blake2b(patient.encode(), digest_size=16).digest()
        try:
            return self._exchange(key, fingerprints, moment)
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise OSError(0, f"the catalog cannot be written: {error}") from None

    def _exchange(
        self, key: bytes, fingerprints: Mapping[str, bytes], moment: int
    ) -> dict[str, int]:
        known = self._known(key)
        if merge(known, fingerprints, moment) != known:
            # The rows that are read anew cannot change until the commit.
            self._connection.execute("BEGIN IMMEDIATE")
            known = self._known(key)
            self._write(key, known, merge(known, fingerprints, moment))
            self._connection.execute("COMMIT")
        return {study: first for study, (_, first) in merge(known, fingerprints, moment).items()}

    def _known(self, key: bytes) -> Seen:
        rows = self._connection.execute(
            "SELECT study, fingerprint, first FROM seen WHERE patient = ?", (key,)
        )
        return {study: (fingerprint, first) for study, fingerprint, first in rows}

    def _write(self, key: bytes, known: Seen, seen: Seen) -> None:
        self._connection.executemany(
            "DELETE FROM seen WHERE patient = ? AND study = ?",
            [(key, study) for study in known.keys() - seen.keys()],
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)",
            [(key, study, *value) for study, value in seen.items() if known.get(study) != value],
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
