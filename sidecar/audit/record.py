"""What the audit events of one request contain (SIA-60)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from sidecar.access.facts import Part, Token

SEARCH_CHARACTERS = 800
"""Limit in characters of a recorded search: a line is then written at once (PIPE_BUF)."""
_CREDENTIALS = re.compile(
    r"token|authorization|bearer|jwt|passw|secret|assertion|credential|(?:^|_)key$", re.IGNORECASE
)
_MASKED = "masked"


@dataclass(slots=True)
class AccessRecord:
    """What is recorded of one request, filled step by step while it is decided and answered.

    ``route``: its name. ``search``: what a FHIR or QIDO-RS search asked for. ``address``: the
    client's IP. ``token``: what the authorization server said. ``token_hash``: a keyed hash of the
    ``bearer`` token, which itself is not recorded. ``patient`` (FHIR id) and ``part``: what was
    asked for, permitted or not. ``is_query``: QIDO-RS. ``instances``: whole DICOM instances were
    asked for. ``reason``: why the request was refused or broken off. ``broken_off``: the status in
    logs and metrics of an answer that we broke off after its head had gone out. ``left_out``:
    studies that are not in a list because their UIDs are another patient's, too.
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
    broken_off: str | None = None
    left_out: frozenset[str] = frozenset()

    def asks_for(self, patient: str | None) -> None:
        """Record the patient that the request names, masked if that may be a credential."""
        self.patient = _MASKED if patient and self._is_secret(patient) else patient

    def searches(self, path: str, parameters: Sequence[tuple[str, str]]) -> None:
        """Record a search. What might be a credential is masked, and what is very long is cut."""
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
        """Whether a token came, good or not: only open documents are answered without one."""
        return self.token_hash is not None
