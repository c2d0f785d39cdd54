"""The audit trail: who asked for whose images, what was decided, how it ended (SIA-60).

AuditEvents, a line each.

The one place where patients and studies are named. Tokens are there as a keyed hash alone. An event
is written before the answer that it tells of leaves; when it cannot be written, that answer does
not leave.
"""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cachetools import TTLCache

from sidecar.access.reasons import INVALID_TOKEN
from sidecar.audit.event import REFUSED, SERIOUS, SUCCESS, AuditSource, audit_event
from sidecar.audit.record import AccessRecord
from sidecar.audit.sinks import NoSink, Sink
from sidecar.common.errors import Unavailable

log = logging.getLogger(__name__)

HASH_CHARACTERS = 32
REPEAT_SECONDS = 60
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class AuditTrail:
    """Writes events to ``sink``.

    ``key``: of the tokens' hashes; ``observe`` takes ``written`` or ``failed``.

    ``retire`` ends the delivery to a repository.
    """

    def __init__(
        self,
        sink: Sink,
        source: AuditSource,
        key: bytes,
        *,
        observe: Callable[[str], None] = lambda outcome: None,
        retire: Callable[[], None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sink = sink
        self._source = source
        self._key = key
        self._observe = observe
        self._retire = retire
        self._clock = clock
        self._inactive: TTLCache[str, bool] = TTLCache(10_000, REPEAT_SECONDS, time.monotonic)

    @property
    def is_off(self) -> bool:
        """Whether nothing is written."""
        return isinstance(self._sink, NoSink)

    def retire(self) -> None:
        """Another generation's trail delivers from now on; events can still be written here."""
        if self._retire is not None:
            self._retire()

    def token_hash(self, token: str) -> str:
        """A keyed hash: it joins the events of one token, and nobody can try tokens against it."""
        return hmac.new(self._key, token.encode("ascii"), hashlib.sha256).hexdigest()[
            :HASH_CHARACTERS
        ]

    def permitted(self, record: AccessRecord) -> None:
        """A transfer will begin. Raises ``Unavailable`` when that cannot be written down."""
        self._write(record, SUCCESS, "permitted")

    def answered(self, record: AccessRecord, status: int, *, late: bool = False) -> None:
        """An answer with this status will leave, or (``late``) has left.

        Raises ``Unavailable`` like ``permitted``.
        """
        outcome = (
            SERIOUS if status >= _SERVER_ERROR else REFUSED if status >= _CLIENT_ERROR else SUCCESS
        )
        self._write(record, outcome, f"status {status}", late=late)

    def _write(self, record: AccessRecord, outcome: str, step: str, *, late: bool = False) -> None:
        # Of the tries of a token that is none the first of each ``REPEAT_SECONDS`` is told.
        inactive = record.token_hash if record.reason in INVALID_TOKEN else None
        if (
            self.is_off
            or not record.is_worth_an_event
            or (inactive is not None and inactive in self._inactive)
        ):
            return
        recorded = self._clock().isoformat(timespec="milliseconds")
        event = audit_event(record, self._source, recorded=recorded, outcome=outcome, step=step)
        try:
            # ASCII alone: what a server wrote into its answers can end no line, whichever reader
            # splits them.
            self._sink.write(
                json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n", late=late
            )
        except (OSError, ValueError) as error:
            self._observe("failed")
            detail = error.strerror if isinstance(error, OSError) else "not JSON"
            log.error(
                "an audit event cannot be written: nothing is answered", extra={"detail": detail}
            )
            raise Unavailable(
                "This server cannot keep its records now; try again.", reason="audit"
            ) from None
        self._observe("written")
        if inactive is not None:
            self._inactive[inactive] = True
