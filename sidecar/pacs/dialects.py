"""What differs between PACSs, as data."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from pydicom.datadict import (
    dictionary_has_tag,
    dictionary_is_retired,
    dictionary_VR,
    keyword_for_tag,
)
from pydicom.tag import Tag

from sidecar.dicom.character_sets import SPECIFIC_CHARACTER_SET
from sidecar.dicomweb.paths import UID_OF_LEVEL

# What may stand in a query as it is (RFC 3986 3.4), but for "&", "=", "+", ";" which forms give a
# meaning of their own.
_LITERAL = "!$'()*,-./:?@_~"
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_EXACT = frozenset({"PatientID", "IssuerOfPatientID"})
"""What we ask for to the letter: no character of it is a wildcard; the rows are compared again."""
_WILDCARD = re.compile(r"[*?]")
_VRS_WITH_COMMAS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
# Orthanc 1.10 keeps identifiers without what is not ASCII, and its "?" finds no "%" at either end.
_ANY = re.compile(r"[^\x00-\x7f]+|%")
# For a PACS that decodes nothing; "^" is in every name and does no harm in a request line.
_NOT_LITERAL = re.compile(r"[^A-Za-z0-9!$'()*,./:?@_~^|\\-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Facts on one PACS product.

    ``page_size``: rows that one QIDO request asks for. ``true_timezone``: whether
    TimezoneOffsetFromUTC in its answers comes from the images (Orthanc writes ``+0000`` whatever
    the truth). ``bulkdata``: its segment before a bulk data path. ``decodes_queries``: whether it
    undoes percent-encoding in the values of a query (Orthanc 1.10 does not: it would look for
    ``Doe%5EJane``). ``splits_at_commas``: whether it takes a comma that is not percent-encoded for
    the end of a value in any attribute, not in lists of UIDs alone; one that decodes nothing takes
    any comma so. ``needs_order``: whether the pages of a query come from one order only when the
    query names it (dcm4chee leaves it to its database). ``keeps_details``: whether attributes
    beyond the usual ones are in its database; Orthanc reads a file of each study or series for
    them. ``uid_list``: most characters of a list of UIDs in a query; some servers take no query
    string of more than 2,048. ``converts_text``: whether it writes the texts of a row in one
    character set first and drops what that one lacks. Orthanc does: in that of ``DefaultEncoding``,
    or the image's own where SpecificCharacterSet is asked for. ``one_media_range``: whether it
    reads an Accept header as one media range, without a weight. ``answers_head``: whether a HEAD of
    a retrieval may be answered as such; Orthanc 1.10 has none.
    """

    name: str
    page_size: int = 500
    true_timezone: bool = True
    bulkdata: str = "bulkdata"
    decodes_queries: bool = True
    splits_at_commas: bool = False
    needs_order: bool = False
    keeps_details: bool = True
    uid_list: int = 1_600
    converts_text: bool = False
    one_media_range: bool = False
    answers_head: bool = True

    def one_includefield(
        self, parameters: Sequence[tuple[str, str]], *, character_set: bool
    ) -> list[tuple[str, str]]:
        """Return the parameters of a search with one ``includefield``: not every PACS reads several.

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
        """Return the parameters that give a query at ``level`` (``studies``, ``series``, ``instances``) its order."""
        return (("orderby", UID_OF_LEVEL[level]),) if self.needs_order else ()

    def query(self, parameters: Iterable[tuple[str, str]]) -> str:
        """Return the query string of a search, its attributes by keyword (PS3.18 8.3.4.1)."""
        return "&".join(
            f"{by_keyword(name)}={self._value(name, _fields(value) if name == 'includefield' else value)}"
            for name, value in parameters
        )

    def writes_exactly(self, value: str) -> bool:
        """Whether a query for this PatientID or issuer finds no others.

        A wildcard stands for what cannot be written.
        """
        if _WILDCARD.search(value):
            return False
        return self.decodes_queries or self._value("PatientID", value) == value

    def _value(self, name: str, value: str) -> str:
        if name in _EXACT:
            value = _WILDCARD.sub("?", value)
        if self.decodes_queries:
            literal = (
                _LITERAL.replace(",", "")
                if self.splits_at_commas and not _is_list(name)
                else _LITERAL
            )
            return quote(value, safe=literal)
        # Wildcards stand for what cannot be written; the rows are compared again.
        written = _NOT_LITERAL.sub("?", _ANY.sub("*", value))
        return written.replace(",", "?") if _may_have_commas(name) else written


def _is_list(name: str) -> bool:
    """Whether commas separate the values of a parameter: includefield, and UIDs (PS3.18 8.3.4.1)."""
    return name == "includefield" or _vr(name) == "UI"


def _may_have_commas(name: str) -> bool:
    """Whether a comma belongs to the value of this attribute (PS3.5 6.2): then it separates no values."""
    return _vr(name) in _VRS_WITH_COMMAS


def _fields(names: str) -> str:
    return ",".join(map(by_keyword, names.split(",")))


@lru_cache(1_024)  # Clients choose the names.
def by_keyword(name: str) -> str:
    """Return an attribute with the keyword of each tag in it.

    Other names, and unknown tags, as they are.

    ``0020000D`` -> ``StudyInstanceUID``; ``00400275.00400009`` ->
    ``RequestAttributesSequence.ScheduledProcedureStepID``. PS3.18 allows both, but tiny_pacs knows
    no tags, and ignores what it does not know. A retired attribute stays a tag: Orthanc has other
    keywords for these (``RETIRED_OtherPatientIDs``), and ignores ours.
    """
    return ".".join(map(_keyword, name.split(".")))


def _keyword(step: str) -> str:
    if not _TAG.fullmatch(step):
        return step
    tag = int(step, 16)
    # A group that repeats (60xx) is not in the dictionary itself: one keyword would stand for all
    # of them.
    if not dictionary_has_tag(tag) or dictionary_is_retired(tag):
        return step
    return keyword_for_tag(tag) or step


@lru_cache(1_024)  # Clients choose the names.
def _vr(name: str) -> str:
    attribute = name.rpartition(".")[2]
    try:
        return dictionary_VR(Tag(int(attribute, 16) if _TAG.fullmatch(attribute) else attribute))
    except (KeyError, ValueError):
        return ""


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("generic"),
        Dialect(
            "orthanc",
            true_timezone=False,
            bulkdata="bulk",
            decodes_queries=False,
            keeps_details=False,
            uid_list=6_000,
            converts_text=True,
            one_media_range=True,
            answers_head=False,
        ),
        Dialect("dcm4chee", splits_at_commas=True, needs_order=True, uid_list=6_000),
    )
}
