"""The audit trail: who asked for whose images, what was decided, how it ended (SIA-60). AuditEvents, a line each.

The one place where patients and studies are named. Tokens are there as a keyed hash alone. An event is written before
the answer that it tells of leaves; when it cannot be written, that answer does not leave.
"""

import hashlib
import hmac
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import orjson

from sidecar.common.errors import Unavailable
from sidecar.telemetry.access_record import AccessRecord
from sidecar.telemetry.audit_event import REFUSED, SERIOUS, SUCCESS, Teller, audit_event

log = logging.getLogger(__name__)

HASH_CHARACTERS = 32
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class Sink(Protocol):
    """Where the lines go."""

    def write(self, line: bytes) -> None:
        """Write a whole line. Raises ``OSError``."""


class NoSink:
    """``none``."""

    def write(self, line: bytes) -> None:
        """Drop it."""


class StdoutSink:
    """``stdout``: for the platform's log collector; the JSON log is on standard error."""

    def write(self, line: bytes) -> None:
        """Write it at once."""
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


class FileSink:
    """``file``: appended to; opened anew when it was moved away (logrotate)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._open()

    def write(self, line: bytes) -> None:
        """Append it with one system call: it is the kernel's before the answer leaves."""
        if self._current() != self._identity:
            self._open()
        if os.write(self._descriptor, line) != len(line):
            raise OSError("a line was not written whole")

    def _current(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _open(self) -> None:
        self.close()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._identity = self._current()

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class AuditTrail:
    """Writes events to ``sink``. ``key``: of the tokens' hashes; ``observe`` takes ``written`` or ``failed``."""

    def __init__(
        self,
        sink: Sink,
        teller: Teller,
        key: bytes,
        *,
        observe: Callable[[str], None] = lambda outcome: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sink = sink
        self._teller = teller
        self._key = key
        self._observe = observe
        self._clock = clock

    @property
    def is_off(self) -> bool:
        """Whether nothing is written."""
        return isinstance(self._sink, NoSink)

    def token_hash(self, token: str) -> str:
        """A keyed hash: it joins the events of one token, and nobody can try tokens against it."""
        return hmac.new(self._key, token.encode("ascii"), hashlib.sha256).hexdigest()[:HASH_CHARACTERS]

    def permitted(self, record: AccessRecord) -> None:
        """A transfer will begin. Raises ``Unavailable`` when that cannot be written down."""
        self._write(record, SUCCESS, "permitted")

    def answered(self, record: AccessRecord, status: int) -> None:
        """An answer with this status will leave, or a transfer ended. Raises ``Unavailable`` like ``permitted``."""
        outcome = SERIOUS if status >= _SERVER_ERROR else REFUSED if status >= _CLIENT_ERROR else SUCCESS
        self._write(record, outcome, f"status {status}")

    def _write(self, record: AccessRecord, outcome: str, step: str) -> None:
        if self.is_off or not record.is_worth_an_event:
            return
        recorded = self._clock().isoformat(timespec="milliseconds")
        event = audit_event(record, self._teller, recorded=recorded, outcome=outcome, step=step)
        try:
            self._sink.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            self._observe("failed")
            log.error("an audit event cannot be written: nothing is answered", extra={"detail": error.strerror})
            raise Unavailable("This server cannot keep its records now; try again.", reason="audit") from None
        self._observe("written")
