"""Describe what differs between PACS products: as data, or learned from answers."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from sidecar.dicom.character_sets import SPECIFIC_CHARACTER_SET
from sidecar.dicom.dictionary import STANDARD, entry, tag_of
from sidecar.dicomweb.media_types import DICOM_JSON, PLAIN_JSON
from sidecar.dicomweb.paths import UID_OF_LEVEL

_REFUSED = frozenset({406, 415})
REMEMBERED_SECONDS = 3_600
"""Time in seconds for which ``application/json`` is asked for after it was the type that works."""
NEITHER_SECONDS = 60
"""Time in seconds for which no request is repeated after both types were refused."""
# Literal in a query (RFC 3986 3.4), but for "&", "=", "+", ";", which forms use for themselves.
_LITERAL = "!$'()*,-./:?@_~"
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_EXACT = frozenset({"PatientID", "IssuerOfPatientID"})
"""Attributes whose values are literal, without wildcards. The rows are compared again."""
_WILDCARD = re.compile(r"[*?]")
_VRS_WITH_COMMAS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
# Orthanc 1.10 stores identifiers in ASCII alone, and its "?" finds no "%" at either end.
_ANY = re.compile(r"[^\x00-\x7f]+|%")
# For a PACS that decodes nothing; "^" is in every name and does no harm in a request line.
_NOT_LITERAL = re.compile(r"[^A-Za-z0-9!$'()*,./:?@_~^|\\-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Facts on one PACS product."""

    name: str
    page_size: int = 500
    """Rows that one QIDO request asks for."""
    true_timezone: bool = True
    """Whether TimezoneOffsetFromUTC comes from the images. Orthanc always writes ``+0000``."""
    bulkdata: str = "bulkdata"
    """Path segment before a bulk data path."""
    decodes_queries: bool = True
    """Whether it decodes percent-encoding in a query. Orthanc 1.10 looks for ``Doe%5EJane``."""
    splits_at_commas: bool = False
    """Whether a literal comma ends a value in any attribute, not in lists of UIDs alone.

    A product that decodes nothing takes each comma so.
    """
    needs_order: bool = False
    """Whether pages have one order only with ``orderby`` (dcm4chee leaves it to its database)."""
    keeps_details: bool = True
    """Whether rarer attributes are in its database. Orthanc reads a file for them."""
    uid_list: int = 1_600
    """Limit of characters in a list of UIDs. Some servers take query strings of 2,048 at most."""
    series_show_owners: bool = False
    """Whether it makes each study of instances, so that none is without series."""
    converts_text: bool = False
    """Whether it converts the texts of a row to one character set, and drops what that lacks.

    Orthanc does: to its ``DefaultEncoding``, or to the image's own character set where
    SpecificCharacterSet is asked for.
    """
    one_media_range: bool = False
    """Whether it reads an Accept header as one media range, without a weight."""
    answers_head: bool = True
    """Whether a retrieval may be asked for with HEAD; Orthanc 1.10 has none."""

    def one_includefield(
        self, parameters: Sequence[tuple[str, str]], *, character_set: bool
    ) -> list[tuple[str, str]]:
        """Return ``parameters`` with one ``includefield``, as not every PACS reads several.

        ``character_set``: whether SpecificCharacterSet is among its fields.
        """
        others = [(name, value) for name, value in parameters if name != "includefield"]
        written = [
            field
            for name, value in parameters
            if name == "includefield"
            for field in value.split(",")
        ]
        fields = ["all"] if "all" in written else list(dict.fromkeys(written))
        fields = [field for field in fields if field not in ("", SPECIFIC_CHARACTER_SET)]
        # Orthanc 1.10 does not count it among all.
        if character_set and (self.converts_text or "all" not in fields):
            fields.append(SPECIFIC_CHARACTER_SET)
        return [*others, ("includefield", ",".join(fields))] if fields else others

    def order(self, level: str) -> tuple[tuple[str, str], ...]:
        """Return the parameters that sort a query at ``level`` (``studies``, ``series``, …)."""
        return (("orderby", UID_OF_LEVEL[level]),) if self.needs_order else ()

    def query(self, parameters: Iterable[tuple[str, str]]) -> str:
        """Return the query string of a search, its attributes by keyword (PS3.18 8.3.4.1)."""
        written = []
        for name, value in parameters:
            is_list = name == "includefield"
            fields = ",".join(map(by_keyword, value.split(","))) if is_list else value
            written.append(f"{by_keyword(name)}={self._value(name, fields)}")
        return "&".join(written)

    def writes_exactly(self, value: str) -> bool:
        """Return whether a query for this PatientID or issuer finds no others.

        A wildcard stands for a character that cannot be written.
        """
        if _WILDCARD.search(value):
            return False
        return self.decodes_queries or self._value("PatientID", value) == value

    def _value(self, name: str, value: str) -> str:
        if name in _EXACT:
            value = _WILDCARD.sub("?", value)
        vr = _vr(name)
        if self.decodes_queries:
            is_list = name == "includefield" or vr == "UI"  # PS3.18 8.3.4.1
            if self.splits_at_commas and not is_list:
                return quote(value, safe=_LITERAL.replace(",", ""))
            return quote(value, safe=_LITERAL)
        # Wildcards stand for what cannot be written; the rows are compared again.
        written = _NOT_LITERAL.sub("?", _ANY.sub("*", value))
        # A comma that belongs to the value (PS3.5 6.2) must not separate values.
        return written.replace(",", "?") if vr in _VRS_WITH_COMMAS else written


@lru_cache(1_024)  # Clients choose the names.
def by_keyword(name: str) -> str:
    """Return an attribute with a keyword for each tag; other names and unknown tags stay.

    ``0020000D`` -> ``StudyInstanceUID``; ``00400275.00400009`` ->
    ``RequestAttributesSequence.ScheduledProcedureStepID``. PS3.18 allows both, but tiny_pacs
    ignores tags. A retired attribute stays a tag: Orthanc has other keywords for these
    (``RETIRED_OtherPatientIDs``), and ignores ours.
    """
    return ".".join(map(_keyword, name.split(".")))


def _keyword(step: str) -> str:
    if not _TAG.fullmatch(step):
        return step
    # One keyword would stand for all of a repeating group (60xx).
    known = STANDARD.get(int(step, 16))
    return step if known is None or known.is_retired else known.keyword or step


@lru_cache(1_024)  # Clients choose the names.
def _vr(name: str) -> str:
    attribute = name.rpartition(".")[2]
    tag = int(attribute, 16) if _TAG.fullmatch(attribute) else tag_of(attribute)
    known = None if tag is None else entry(tag)
    return "" if known is None else known.vr


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("generic"),
        Dialect(
            "orthanc",
            page_size=2_000,  # Each page costs it as much as 250 rows of a list of 5,000.
            true_timezone=False,
            bulkdata="bulk",
            decodes_queries=False,
            keeps_details=False,
            uid_list=6_000,
            series_show_owners=True,
            converts_text=True,
            one_media_range=True,
            answers_head=False,
        ),
        Dialect("dcm4chee", splits_at_commas=True, needs_order=True, uid_list=6_000),
    )
}


class JsonType:
    """Choose the media type for DICOM JSON (PS3.18 F.1.1): some archives know one type alone.

    An archive that knows ``application/json`` alone answers 406 or 415. Then the request is
    repeated for the other type, and the result is remembered: one request in an hour costs two.
    ``clock``: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plain_until = self._neither_until = float("-inf")

    @property
    def accept(self) -> str:
        """The media type to ask for."""
        return PLAIN_JSON if self._clock() < self._plain_until else DICOM_JSON

    def instead(self, accept: str, status: int) -> str | None:
        """Return the type to repeat a request with after ``accept`` led to ``status``, if any."""
        if status not in _REFUSED or self._clock() < self._neither_until:
            return None
        return DICOM_JSON if accept == PLAIN_JSON else PLAIN_JSON

    def learn(self, accept: str, status: int) -> None:
        """Remember the HTTP ``status`` of the repeated request, which was for ``accept``."""
        if status in (200, 204):
            self._plain_until = (
                self._clock() + REMEMBERED_SECONDS if accept == PLAIN_JSON else float("-inf")
            )
        elif status < 500 and status != 429:  # A busy archive has not judged the type.
            self._neither_until = self._clock() + NEITHER_SECONDS
