"""The catalog in a PostgreSQL database, for replicas on several machines (extra ``postgresql``)."""

import contextlib
import hashlib
import os
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from sidecar.fhir.catalog.catalog import Seen, merge

_SCHEMA = """
CREATE TABLE IF NOT EXISTS smart_imaging_seen (
    patient BYTEA NOT NULL, study TEXT NOT NULL, fingerprint BYTEA NOT NULL, first BIGINT NOT NULL,
    PRIMARY KEY (patient, study)
)
"""
_CONNECT_SECONDS = 5
_STATEMENT_MILLISECONDS = 5_000
_EXCHANGE_SECONDS = 10.0
"""Seconds after which the connection is broken, should the server not keep its shorter limit."""


def probe(dsn: str) -> None:
    """Connect to the database once, and change nothing. Raises ``OSError`` when that fails."""
    try:
        _connect(dsn).close()
    except psycopg.Error as error:
        raise _unusable(error) from None


def _connect(dsn: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(
        dsn,
        autocommit=True,
        connect_timeout=_CONNECT_SECONDS,
        options=f"-c statement_timeout={_STATEMENT_MILLISECONDS}"
        f" -c lock_timeout={_STATEMENT_MILLISECONDS}",
    )


def _unusable(error: psycopg.Error) -> OSError:
    return OSError(0, f"the catalog's database cannot be used ({type(error).__name__})")


class PostgresqlStore:
    """Store at ``dsn``, a libpq connection string or URL. Patients are stored as hashes.

    Raises ``OSError`` when the database cannot be used. Each exchange has a connection of its own,
    so one that hangs blocks no other.
    """

    threads = 4

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._idle: queue.SimpleQueue[psycopg.Connection[Any]] = queue.SimpleQueue()
        self._is_closed = False
        try:
            with contextlib.ExitStack() as stack:
                connection = _connect(dsn)
                stack.callback(connection.close)
                with _bounded(connection), connection.transaction():
                    # Replicas that start together would both make it.
                    connection.execute("SELECT pg_advisory_xact_lock(727209)")
                    connection.execute(_SCHEMA)
                stack.pop_all()
        except psycopg.Error as error:
            raise _unusable(error) from None
        self._idle.put(connection)

    def exchange(
        self, patient: str, fingerprints: Mapping[str, bytes], moment: int
    ) -> dict[str, int]:
        """As ``Store``, in one transaction; on a lost connection once more. Raises ``OSError``."""
        key = hashlib.blake2b(patient.encode(), digest_size=16).digest()
        try:
            try:
                return self._exchange_by(self._idle.get_nowait(), key, fingerprints, moment)
            except (queue.Empty, psycopg.OperationalError):
                return self._exchange_by(_connect(self._dsn), key, fingerprints, moment)
        except psycopg.Error as error:
            # Its own text may quote values.
            raise OSError(0, f"the catalog cannot be written ({type(error).__name__})") from None

    def _exchange_by(
        self,
        connection: "psycopg.Connection[Any]",
        key: bytes,
        fingerprints: Mapping[str, bytes],
        moment: int,
    ) -> dict[str, int]:
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            with _bounded(connection):
                found = _exchange(connection, key, fingerprints, moment)
            stack.pop_all()
        self._idle.put(connection)
        if self._is_closed:
            self.close()
        return found

    def close(self) -> None:
        """Close the connections; those in use are closed after their exchange."""
        self._is_closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


@contextlib.contextmanager
def _bounded(connection: "psycopg.Connection[Any]") -> Iterator[None]:
    """Break the connection when the block takes longer than ``_EXCHANGE_SECONDS``.

    Then raise ``OSError``. The server's own limits do not help when it is frozen or the network is
    cut: libpq waits for its answer without a limit.
    """
    over = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as theirs:

        def end() -> None:
            over.set()
            with contextlib.suppress(OSError):
                theirs.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_EXCHANGE_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error:
            if over.is_set():
                raise OSError(0, "the catalog's database is silent") from None
            raise
        finally:
            timer.cancel()
            timer.join()


def _exchange(
    connection: "psycopg.Connection[Any]",
    key: bytes,
    fingerprints: Mapping[str, bytes],
    moment: int,
) -> dict[str, int]:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(key[:8], "big", signed=True),)
        )
        cursor.execute(
            "SELECT study, fingerprint, first FROM smart_imaging_seen WHERE patient = %s", (key,)
        )
        known: Seen = {study: (bytes(mark), first) for study, mark, first in cursor.fetchall()}
        seen = merge(known, fingerprints, moment)
        gone, new = (
            known.keys() - seen.keys(),
            [(study, value) for study, value in seen.items() if known.get(study) != value],
        )
        if gone:
            cursor.execute(
                "DELETE FROM smart_imaging_seen WHERE patient = %s AND study = ANY(%s)",
                (key, list(gone)),
            )
        if new:
            cursor.executemany(
                "INSERT INTO smart_imaging_seen VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (patient, study) "
                "DO UPDATE SET fingerprint = excluded.fingerprint, first = excluded.first",
                [(key, study, *value) for study, value in new],
            )
    return {study: first for study, (_, first) in seen.items()}
