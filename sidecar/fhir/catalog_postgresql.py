"""The catalog in a PostgreSQL database, for replicas on several machines (extra ``postgresql``)."""

import contextlib
import hashlib
import threading
from collections.abc import Mapping
from typing import Any

import psycopg

from sidecar.fhir.catalog import Seen, merge

_SCHEMA = """
CREATE TABLE IF NOT EXISTS smart_imaging_seen (
    patient BYTEA NOT NULL, study TEXT NOT NULL, fingerprint BYTEA NOT NULL, first BIGINT NOT NULL,
    PRIMARY KEY (patient, study)
)
"""
_CONNECT_SECONDS = 5
_STATEMENT_MILLISECONDS = 5_000


class PostgresqlStore:
    """``dsn``: a libpq connection string or URL. Patients are hashes in it. Raises ``OSError`` when it is not there."""

    blocks = True

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._turn = threading.Lock()
        try:
            with contextlib.ExitStack() as stack:
                self._connection = self._connect()
                stack.callback(self._connection.close)
                with self._connection.transaction():
                    # Replicas that start together would both make it.
                    self._connection.execute("SELECT pg_advisory_xact_lock(727209)")
                    self._connection.execute(_SCHEMA)
                stack.pop_all()
        except psycopg.Error as error:
            raise OSError(0, f"the catalog's database cannot be used ({type(error).__name__})") from None

    def _connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(
            self._dsn, autocommit=True, connect_timeout=_CONNECT_SECONDS,
            options=f"-c statement_timeout={_STATEMENT_MILLISECONDS} -c lock_timeout={_STATEMENT_MILLISECONDS}",
        )  # fmt: skip

    def exchange(self, patient: str, fingerprints: Mapping[str, bytes], moment: int) -> dict[str, int]:
        """As ``Store``, in one transaction; on a lost connection once more. Raises ``OSError``."""
        key = hashlib.blake2b(patient.encode(), digest_size=16).digest()
        with self._turn:
            try:
                try:
                    return self._exchange(key, fingerprints, moment)
                except psycopg.OperationalError:
                    self._connection.close()
                    self._connection = self._connect()
                    return self._exchange(key, fingerprints, moment)
            except psycopg.Error as error:
                # Its own text may quote values.
                raise OSError(0, f"the catalog cannot be written ({type(error).__name__})") from None

    def _exchange(self, key: bytes, fingerprints: Mapping[str, bytes], moment: int) -> dict[str, int]:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(key[:8], "big", signed=True),))
            cursor.execute("SELECT study, fingerprint, first FROM smart_imaging_seen WHERE patient = %s", (key,))
            known: Seen = {study: (bytes(mark), first) for study, mark, first in cursor.fetchall()}
            seen = merge(known, fingerprints, moment)
            gone, new = known.keys() - seen.keys(), [one for one in seen.items() if known.get(one[0]) != one[1]]
            if gone:
                cursor.execute(
                    "DELETE FROM smart_imaging_seen WHERE patient = %s AND study = ANY(%s)", (key, list(gone))
                )
            if new:
                cursor.executemany(
                    "INSERT INTO smart_imaging_seen VALUES (%s, %s, %s, %s) ON CONFLICT (patient, study) "
                    "DO UPDATE SET fingerprint = excluded.fingerprint, first = excluded.first",
                    [(key, study, *value) for study, value in new],
                )
        return {study: first for study, (_, first) in seen.items()}

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._connection.close()
