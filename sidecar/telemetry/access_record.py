"""What one request's audit events say: gathered step by step while the request is decided and answered (SIA-60)."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import urlencode

from sidecar.access.decision import Part
from sidecar.access.token import Token

_CURRENT: ContextVar["AccessRecord | None"] = ContextVar("access_record", default=None)


@dataclass(slots=True)
class AccessRecord:
    """``route`` is its name, ``search`` what was asked for in a FHIR or QIDO-RS search, ``address`` the peer's IP.

    ``token`` is what the authorization server said, ``token_hash`` a keyed hash of the bearer token; ``patient`` (FHIR
    id) and ``part`` are what was asked for, permitted or not; ``reason`` why it was refused or broken off.
    """

    request_id: str
    address: str | None = None
    route: str = "unknown"
    search: str | None = None
    token: Token | None = None
    token_hash: str | None = None
    patient: str | None = None
    part: Part | None = None
    reason: str | None = None

    def searches(self, path: str, parameters: Sequence[tuple[str, str]]) -> None:
        """It is a search. What might be a credential in a parameter (RFC 6750 2.3) is masked."""
        shown = [(name, "masked" if "token" in name.lower() else value) for name, value in parameters]
        self.search = path + ("?" + urlencode(shown) if shown else "")

    @property
    def is_worth_an_event(self) -> bool:
        """Whether a token came, good or not: nothing but open documents is answered without."""
        return self.token_hash is not None


def start_record(request_id: str, address: str | None) -> AccessRecord:
    """Begin a request: ``current_record`` is this one from now on, in this task and its children."""
    record = AccessRecord(request_id, address)
    _CURRENT.set(record)
    return record


def current_record() -> AccessRecord:
    """The request's record; outside of a request one that nobody reads."""
    return _CURRENT.get() or AccessRecord("")
