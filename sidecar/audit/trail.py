"""The audit trail: who asked for whose images, what was decided, how it ended (SIA-60).

Each AuditEvent is a line. Events name patients and studies, and have a keyed hash in place of a
token. An event is written before its response leaves. If that fails, the response does not leave.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cachetools import TTLCache

from sidecar.access.reasons import INVALID_TOKEN
from sidecar.audit.event import REFUSED, SERIOUS, SUCCESS, AuditSource, audit_line
from sidecar.audit.record import AccessRecord
from sidecar.audit.sinks import NoSink, Sink
from sidecar.common.errors import Unavailable

log = logging.getLogger(__name__)

HASH_CHARACTERS = 32
REPEAT_SECONDS = 60
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class AuditTrail:
    """Write events to ``sink``.

    ``key`` is that of the hashes of tokens. ``observe`` gets ``written`` or ``failed``.
    ``hand_over`` leaves the delivery to other processes. Events can still be written.
    """

    def __init__(
        self,
        sink: Sink,
        source: AuditSource,
        key: bytes,
        *,
        observe: Callable[[str], None] = lambda outcome: None,
        hand_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._sink = sink
        self._source = source
        self._key = hashlib.blake2b(key).digest()
        self._observe = observe
        self.hand_over = hand_over
        self._inactive: TTLCache[str, bool] = TTLCache(10_000, REPEAT_SECONDS, time.monotonic)

    def token_hash(self, token: str) -> str:
        """Return a keyed hash, which joins the events of a token."""
        # A third of what an HMAC costs.
        return hashlib.blake2b(
            token.encode("ascii"), key=self._key, digest_size=HASH_CHARACTERS // 2
        ).hexdigest()

    def permitted(self, record: AccessRecord) -> None:
        """Record that a transfer will begin. Raises ``Unavailable`` when that cannot be written."""
        self._write(record, SUCCESS, "permitted")

    def answered(self, record: AccessRecord, status: int, *, late: bool = False) -> None:
        """Record that a response with this status will leave, or (``late``) has left.

        Raises ``Unavailable`` when that cannot be written.
        """
        outcome = (
            SERIOUS if status >= _SERVER_ERROR else REFUSED if status >= _CLIENT_ERROR else SUCCESS
        )
        self._write(record, outcome, f"status {status}", late=late)

    def _write(self, record: AccessRecord, outcome: str, step: str, *, late: bool = False) -> None:
        # An invalid token is recorded once in REPEAT_SECONDS.
        inactive = record.token_hash if record.reason in INVALID_TOKEN else None
        if (
            isinstance(self._sink, NoSink)
            or not record.is_worth_an_event
            or (inactive is not None and inactive in self._inactive)
        ):
            return
        recorded = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            line = audit_line(record, self._source, recorded=recorded, outcome=outcome, step=step)
            self._sink.write(line, late=late)
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
