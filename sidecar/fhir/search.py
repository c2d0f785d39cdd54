"""A search for ImagingStudy, as it was understood (SIA-20..24)."""

import hashlib
from dataclasses import dataclass, field

from sidecar.fhir.cursor import Cursor
from sidecar.fhir.dates import DateFilter
from sidecar.fhir.result_parameters import ResultParameters
from sidecar.fhir.token_search import TextFilter, TokenFilter


@dataclass(frozen=True, slots=True)
class IdentifierFilter:
    """Alternatives of ``identifier`` or ``basedon:identifier``.

    These are StudyInstanceUIDs, AccessionNumbers and placer order numbers. ``any_uid``: every study
    matches; ``any_accession``: every one with an accession number. ``negated``: ``:not``.
    """

    uids: frozenset[str] = frozenset()
    accession_numbers: frozenset[str] = frozenset()
    any_uid: bool = False
    any_accession: bool = False
    order_numbers: frozenset[str] = frozenset()
    negated: bool = False


@dataclass(slots=True)
class Search:
    """Search for ImagingStudy.

    - ``patients``: FHIR ids that the request names; all must be the token's (SIA-22)
    - ``patient_identifiers``: system (``None``: any) and value of each identifier that it names;
      all must be that patient's
    - ``identifiers``, ``started``, ``last_updated``, ``tokens``, ``texts``: each element has
      alternatives, and all elements must hold
    - ``missing``: parameters, and whether a study must have no such value
    - ``used``: parameters as they were understood, for ``link.self``; ``ignored``: names of others;
      ``is_widened``: one of these is a filter
    - ``after_text``: the sealed ``_after``; ``after``: the cursor in it
    """

    patients: set[str] = field(default_factory=set)
    patient_identifiers: set[tuple[str | None, str]] = field(default_factory=set)
    identifiers: list[IdentifierFilter] = field(default_factory=list)
    started: list[tuple[DateFilter, ...]] = field(default_factory=list)
    last_updated: list[tuple[DateFilter, ...]] = field(default_factory=list)
    tokens: list[TokenFilter] = field(default_factory=list)
    texts: list[TextFilter] = field(default_factory=list)
    missing: list[tuple[str, bool]] = field(default_factory=list)
    result: ResultParameters = field(default_factory=ResultParameters)
    after_text: str | None = None
    after: Cursor | None = None
    used: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list, compare=False)
    is_widened: bool = field(default=False, compare=False)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Parameters without the cursor, which is sealed for them."""
        return [pair for pair in self.used if pair[0] != "_after"]

    @property
    def selection(self) -> bytes | None:
        """Hash (16 bytes) of what decides which studies pass, and in which order.

        ``None``: the time decides, too. The filters of a long search take 140 KB.
        """
        dates = (tuple(self.started), tuple(self.last_updated))
        if any(date.prefix == "ap" for filters in dates for any_of in filters for date in any_of):
            return None
        others = (self.identifiers, self.tokens, self.texts, self.missing, self.result.sort)
        written = repr((*dates, *others)).encode()
        return hashlib.blake2b(written, digest_size=16).digest()

    def names(self) -> set[str]:
        """Return the names of token, text and ``:missing`` parameters: what to look up."""
        compared = {token.name for token in self.tokens} | {text.name for text in self.texts}
        return compared | {name for name, _ in self.missing}
