"""Compare studies with constraints of SMART v2 scopes (``patient/ImagingStudy.rs?modality=CT``).

A constraint has search parameters, read as a search reads them.

What cannot be evaluated on a study's rows is not understood, and permits nothing (SIA-11, 16):
modifiers, what is about another resource or about the answer, what would need a question to the
archive for each study.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import parse_qsl

from sidecar.common.errors import BadRequest
from sidecar.dicom.json_model import Row
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.list_snapshot import listed_study
from sidecar.fhir.search import Search
from sidecar.fhir.search_parser import parse_search
from sidecar.fhir.select import satisfies

EVALUATED = frozenset({"_id", "identifier", "started", "modality", "status", "bodysite", "series"})
"""Search parameters that a constraint may have."""
MAXIMUM_LENGTH = 1_000


class Constraints:
    """Reads and evaluates constraints as a search at this ``site`` would."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._read = lru_cache(maxsize=1_000)(self._parse)

    def understands(self, constraint: str) -> bool:
        """Return whether ``constraint`` (what follows ``?`` in a scope) can be evaluated."""
        return self._read(constraint) is not None

    def satisfied(
        self, constraints: Iterable[str], row: Row, series: Sequence[Row]
    ) -> frozenset[str]:
        """Return those constraints that the study with this row and these series satisfies."""
        searches = {constraint: self._read(constraint) for constraint in constraints}
        if not searches:
            return frozenset()
        study = listed_study(row, series, self._site)
        return frozenset(
            constraint
            for constraint, search in searches.items()
            if search is not None and satisfies(study, search)
        )

    def _parse(self, constraint: str) -> Search | None:
        if not 0 < len(constraint) <= MAXIMUM_LENGTH:
            return None
        try:
            parameters = parse_qsl(
                constraint, keep_blank_values=True, strict_parsing=True, errors="strict"
            )
            if not all(name in EVALUATED and value for name, value in parameters):
                return None
            return parse_search(parameters, self._site, strict=True)
        except (ValueError, BadRequest):
            return None
