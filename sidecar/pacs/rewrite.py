"""DICOM JSON on its way out: other people's rows refused, the PACS's URLs made ours, private attributes dropped."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.common.dicom_json import Row, text

RETRIEVE_URL = "00081190"
_BELOW_ROOT = re.compile(r"(?:^|/)(studies/[0-9.]+(?:/[A-Za-z0-9.,]+)*)/?$", re.ASCII)
_MAXIMUM_DEPTH = 64


class TooDeep(ValueError):
    """A sequence in a sequence in a sequence … : no real image has this many."""


def our_url(url: object, root: str) -> str | None:
    """Return the same DICOMweb resource below our ``root``; ``None`` when the URL does not name one.

    ``http://pacs:8042/dicom-web/studies/1.2/bulkdata`` -> ``<root>/studies/1.2/bulkdata``. Relative URLs, too.
    """
    if not isinstance(url, str) or len(url) > 2_048:
        return None
    match = _BELOW_ROOT.search(url)
    # Orthanc's name for it; ours is the standard's, and the PACS client turns it back.
    return f"{root}/{match[1].replace('/bulk/', '/bulkdata/')}" if match else None


def rewrite_row(row: Row, root: str, *, context: str | None = None) -> dict[str, Any]:
    """Return a copy of a DICOM JSON object with URLs below ``root`` and without private attributes of the archive.

    ``context`` is the URL of the instance that the row describes, for BulkDataURIs that are relative to it. A URL that
    cannot be made ours is dropped: it would tell where the archive is. Raises ``TooDeep``.
    """
    return _copy(row, root, context, 0)


def _copy(row: Mapping[str, Any], root: str, context: str | None, depth: int) -> dict[str, Any]:
    if depth > _MAXIMUM_DEPTH:
        raise TooDeep
    copied: dict[str, Any] = {}
    for name, element in row.items():
        if not isinstance(element, Mapping):
            continue
        if element.get("vr") == "UR" or name == RETRIEVE_URL:
            urls = [url for value in element.get("Value", ()) if (url := our_url(value, root))]
            copied[name] = {"vr": "UR", "Value": urls} if urls else {"vr": "UR"}
        elif "BulkDataURI" in element:
            url = _bulkdata_url(element["BulkDataURI"], root, context)
            copied[name] = {"vr": element.get("vr", "UN")} | ({"BulkDataURI": url} if url else {})
        elif element.get("vr") == "SQ" and isinstance(element.get("Value"), list):
            items = [_copy(item, root, context, depth + 1) if isinstance(item, Mapping) else item
                     for item in element["Value"]]  # fmt: skip
            copied[name] = {"vr": "SQ", "Value": items}
        else:
            copied[name] = element
    return copied


def _bulkdata_url(url: object, root: str, context: str | None) -> str | None:
    found = our_url(url, root)
    if found is None and context is not None and isinstance(url, str):
        relative = re.fullmatch(r"(?:\./)?((?:\.\./)*)(bulkdata(?:/[0-9A-Fa-f]{1,8})*)", url, re.ASCII)
        if relative and not relative[1]:
            return f"{context}/{relative[2]}"
    return found


def is_archive_private(name: str) -> bool:
    """Whether a tag is private (odd group): in query answers these are the archive's own notes (dcm4chee: 7777)."""
    try:
        return int(name[:4], 16) % 2 == 1
    except ValueError:
        return True


def public_attributes(row: Row) -> dict[str, Any]:
    """Return a query row without private attributes."""
    return {name: element for name, element in row.items() if not is_archive_private(name)}


def rows_are_in(rows: Iterable[Row], study: str, series: str | None, instance: str | None) -> bool:
    """Whether each metadata row says itself that it is in the study (series, instance) asked for."""
    wanted = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance}
    return all(uid is None or text(row, keyword) == uid for row in rows for keyword, uid in wanted.items())
