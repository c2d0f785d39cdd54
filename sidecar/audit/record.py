"""The record of a request for its audit events, filled while it is handled (SIA-60)."""

import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import urlencode

from sidecar.access.facts import Part, Token

_CURRENT: ContextVar["AccessRecord | None"] = ContextVar("access_record", default=None)

SEARCH_CHARACTERS = 1_000
"""Limit of a search in an event. The line must be short enough to be written at once (PIPE_BUF)."""
_CREDENTIALS = re.compile(
    r"token|authorization|bearer|jwt|passw|secret|assertion|credential|(?:^|_)key$", re.IGNORECASE
)
_MASKED = "masked"


@dataclass(slots=True)
class AccessRecord:
    """What is known of a request.

    ``address`` is the peer's IP, ``route`` the name of the route, ``search`` the path and query of
    a FHIR or QIDO-RS search. ``token`` has the claims; ``token_hash`` is a keyed hash of the
    ``bearer`` token, which is in no event. ``patient`` (FHIR id) and ``part`` were requested,
    permitted or not. ``is_query`` means QIDO-RS; ``instances`` means whole DICOM instances.
    ``reason`` is why the request was refused or broken off. ``left_out`` are studies that are not
    in a list, because their UIDs are another patient's, too.
    """

    request_id: str
    address: str | None = None
    route: str = "unknown"
    search: str | None = None
    token: Token | None = None
    token_hash: str | None = None
    bearer: str | None = field(default=None, repr=False)
    patient: str | None = None
    part: Part | None = None
    is_query: bool = False
    instances: bool = False
    reason: str | None = None
    left_out: frozenset[str] = frozenset()

    def asks_for(self, patient: str | None) -> None:
        """Record the patient that the request names."""
        self.patient = _MASKED if patient and self._is_secret(patient) else patient

    def searches(self, path: str, parameters: Sequence[tuple[str, str]]) -> None:
        """Record a search. Possible credentials are masked, and long texts are cut."""
        shown, left = [], SEARCH_CHARACTERS
        for name, value in parameters:
            masked = _CREDENTIALS.search(name) or self._is_secret(name) or self._is_secret(value)
            shown.append(
                (
                    _MASKED if self._is_secret(name) else name[:left],
                    _MASKED if masked else value[:left],
                )
            )
            left -= len(name) + len(value)
            if left <= 0:
                break
        text = path + ("?" + urlencode(shown, errors="replace") if shown else "")
        self.search = text if len(text) <= SEARCH_CHARACTERS else text[:SEARCH_CHARACTERS] + "…"

    def _is_secret(self, text: str) -> bool:
        return (self.bearer is not None and self.bearer in text) or text[:7].lower() == "bearer "

    @property
    def is_worth_an_event(self) -> bool:
        """Whether the request had a token, valid or not. Open documents need none."""
        return self.token_hash is not None


def start_record(request_id: str, address: str | None) -> AccessRecord:
    """Return a new record, which is ``current_record()`` in this task and its children."""
    record = AccessRecord(request_id, address)
    _CURRENT.set(record)
    return record


def current_record() -> AccessRecord:
    """Return the request's record. Outside of a request it is one that nobody reads."""
    return _CURRENT.get() or AccessRecord("")
