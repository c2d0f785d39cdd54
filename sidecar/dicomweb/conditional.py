"""Header fields of conditional and range requests (RFC 9110 13, 14), to the PACS and back.

Both ways have an allow-list of names, with a pattern of the value for each.
"""

import re
from collections.abc import Mapping

from multidict import CIMultiDictProxy

from sidecar.dicomweb.paths import OBJECTS, Kind

_ETAG = r'(?:W/)?"[!#-~]{0,200}"'
_DATE = r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
_CONDITIONS = {
    "If-None-Match": re.compile(rf"\*|{_ETAG}(?:, ?{_ETAG}){{0,9}}", re.ASCII),
    "If-Modified-Since": re.compile(_DATE, re.ASCII),
}
# A single range: several would cost the PACS more than they save.
_RANGE = {
    "Range": re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})", re.ASCII),
    "If-Range": re.compile(rf"{_ETAG}|{_DATE}", re.ASCII),
}
_VALIDATORS = {"ETag": re.compile(_ETAG, re.ASCII), "Last-Modified": re.compile(_DATE, re.ASCII)}
_RANGES = {"Accept-Ranges": re.compile(r"bytes|none", re.ASCII)}
_PARTIAL = {
    "Content-Range": re.compile(
        r"bytes (?:[0-9]{1,18}-[0-9]{1,18}|\*)/(?:[0-9]{1,18}|\*)", re.ASCII
    )
}


def to_pacs(headers: CIMultiDictProxy[str], kind: Kind) -> dict[str, str]:
    """Return the client's conditions for the PACS.

    A malformed or repeated condition is ignored, as RFC 9110 allows.
    """
    allowed = {**_CONDITIONS, **(_RANGE if heeds_ranges(kind) else {})}
    conditions = {
        name: values[0]
        for name, pattern in allowed.items()
        if len(values := headers.getall(name, [])) == 1 and pattern.fullmatch(values[0])
    }
    if "Range" not in conditions:
        conditions.pop("If-Range", None)
    return conditions


def heeds_ranges(kind: Kind) -> bool:
    """Return whether the range of a request passes to the PACS for such a resource.

    It does for bulk data, pixel data and drawn images alone: an instance's patient is read from its
    beginning, and metadata are rewritten.
    """
    return kind not in OBJECTS and kind is not Kind.METADATA


def to_client(headers: Mapping[str, str], *, partial: bool, ranges: bool = False) -> dict[str, str]:
    """Return the PACS's validators for the client, and Content-Range of a ``partial`` answer.

    ``ranges``: return Accept-Ranges, too. The body leaves unchanged, so that the archive can answer
    a range of it.
    """
    allowed = {**_VALIDATORS, **(_PARTIAL if partial else {}), **(_RANGES if ranges else {})}
    return {
        name: value
        for name, pattern in allowed.items()
        if (value := headers.get(name)) is not None and pattern.fullmatch(value)
    }
