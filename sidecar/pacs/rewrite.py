"""DICOM JSON on its way out: other people's rows refused, the PACS's URLs made ours, private attributes dropped."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from sidecar.common.dicom_json import Row, tag
from sidecar.common.errors import BadRequest, NotFound
from sidecar.common.uid import is_uid
from sidecar.pacs.resources import Kind, Query, Retrieval, parse

RETRIEVE_URL = "00081190"
# RetrieveURL, RetrieveURI, Pixel Data Provider URL: the last two were UT before there was a VR UR.
_URL_ATTRIBUTES = frozenset({RETRIEVE_URL, "0040E010", "00287FE0"})
# What may be named relative to the instance.
_RELATIVE = frozenset({Kind.BULKDATA, Kind.FRAMES, Kind.PIXELDATA})
_PIXELS = frozenset({"7FE00008", "7FE00009", "7FE00010"})
# Private creators of what an archive notes for itself, into the metadata of instances, too (access control, storage).
_ARCHIVES_OWN = frozenset({"DCM4CHEE Archive 5"})
# The archive's address in another protocol, of no use here.
_RETRIEVE_AE_TITLE = tag("RetrieveAETitle")
_PERSON_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_VR = re.compile(r"[A-Z]{2}", re.ASCII)
_MAXIMUM_URL_LENGTH = 2_048
MAXIMUM_DEPTH = 64


class TooDeep(ValueError):
    """A sequence in a sequence in a sequence … : no real image has this many."""


def our_url(url: object, root: str) -> str | None:
    """Return the same DICOMweb resource below our ``root``; ``None`` when the URL does not name one.

    ``http://pacs:8042/dicom-web/studies/1.2/bulkdata`` -> ``<root>/studies/1.2/bulkdata``. Relative URLs, too. It is
    read by the grammar of our own paths and written anew.
    """
    found = _resource(url)
    return None if found is None else found.url(root)


def _resource(url: object) -> Retrieval | Query | None:
    if not isinstance(url, str) or len(url) > _MAXIMUM_URL_LENGTH:
        return None
    # Orthanc's name for it; ours is the standard's, and the PACS client turns it back.
    segments = ["bulkdata" if segment == "bulk" else segment for segment in url.removesuffix("/").split("/")]
    begin = next((at for at, (one, uid) in enumerate(pairwise(segments)) if one == "studies" and is_uid(uid)), None)
    if begin is None:
        return None
    try:
        return parse(segments[begin:])
    except (NotFound, BadRequest):
        return None


def rewrite_row(row: Row, root: str, *, context: str | None = None) -> dict[str, Any]:
    """Return a copy of a DICOM JSON object with URLs below ``root``, each attribute in the shape of PS3.18 F.2.2.

    ``context`` is the URL of the instance that the row describes, for BulkDataURIs that are relative to it. A URL that
    cannot be made ours is dropped: it would tell where the archive is. Raises ``TooDeep``.
    """
    return _copy(row, root, context, 0)


def _copy(row: Mapping[str, Any], root: str, context: str | None, depth: int) -> dict[str, Any]:
    if depth > MAXIMUM_DEPTH:
        raise TooDeep
    notes = archive_notes(row)
    return {
        name: rewrite_element(name, element, root, context, depth)
        for name, element in row.items()
        if isinstance(element, Mapping) and not (notes and block(name) in notes)
    }


def archive_notes(row: Mapping[str, Any]) -> set[str]:
    """The private blocks (PS3.5 7.8.1) of a data set that the archive reserved for itself."""
    return {block(name) for name, element in row.items() if is_creator(name) and _is_archives_creator(element)}


def is_creator(name: str) -> bool:
    """Whether a tag is that of a private creator, ``77770010``."""
    return name[4:6] == "00" and is_archive_private(name)


def _is_archives_creator(element: object) -> bool:
    if not isinstance(element, Mapping):
        return False
    value = element.get("Value")
    return isinstance(value, list) and any(isinstance(one, str) and one.strip(" \0") in _ARCHIVES_OWN for one in value)


def block(name: str) -> str:
    """``77770010`` and the attributes that it reserves, ``777710xx`` -> ``777710``."""
    return (name[:4] + (name[6:8] if name[4:6] == "00" else name[4:6])).upper()


def rewrite_element(
    name: str, element: Mapping[str, Any], root: str, context: str | None, depth: int
) -> dict[str, Any]:
    """An attribute anew: its VR and one of Value, BulkDataURI, InlineBinary (PS3.18 F.2.2), and nothing more."""
    vr = element.get("vr")
    if not isinstance(vr, str) or not _VR.fullmatch(vr):
        vr = "UN"
    value, inline = element.get("Value"), element.get("InlineBinary")
    values = value if isinstance(value, list) else []
    if vr == "UR" or name.upper() in _URL_ATTRIBUTES:
        urls = [url for one in values if (url := our_url(one, root))]
        return {"vr": "UR", "Value": urls} if urls else {"vr": "UR"}
    if "BulkDataURI" in element:
        url = _bulkdata_url(name, element["BulkDataURI"], root, context)
        return {"vr": vr, "BulkDataURI": url} if url else {"vr": vr}
    values = [rewrite_value(one, vr == "SQ", root, context, depth) for one in values]
    if values:
        return {"vr": vr, "Value": values}
    return {"vr": vr, "InlineBinary": inline} if isinstance(inline, str) else {"vr": vr}


def rewrite_value(value: object, is_item: bool, root: str, context: str | None, depth: int) -> object:
    """A value anew, of an attribute in a data set at ``depth``; ``is_item``: of a sequence."""
    if is_item:
        return _copy(value, root, context, depth + 1) if isinstance(value, Mapping) else None
    return _plain(value)


def _plain(value: object) -> object:
    """A value that is no container; of an object the groups of a person name."""
    if isinstance(value, Mapping):
        return {group: value[group] for group in _PERSON_NAME_GROUPS if isinstance(value.get(group), str)}
    return None if isinstance(value, list) else value


def _bulkdata_url(name: str, url: object, root: str, context: str | None) -> str | None:
    found = _resource(url)
    if isinstance(found, Retrieval) and found.kind is Kind.INSTANCE and name.upper() in _PIXELS:
        # dcm4chee answers an instance's URL with the image alone when no DICOM is accepted. Here that has its own URL.
        found = Retrieval(Kind.PIXELDATA, found.part)
    if found is None and context is not None and isinstance(url, str):
        below = _resource(f"{context}/{url.removeprefix('./')}")
        found = below if isinstance(below, Retrieval) and below.kind in _RELATIVE else None
    return None if found is None else found.url(root)


def is_archive_private(name: str) -> bool:
    """Whether a tag is private (odd group): in query answers these are the archive's own notes (dcm4chee: 7777)."""
    return not _TAG.fullmatch(name) or int(name[:4], 16) % 2 == 1


def public_attributes(row: Row) -> dict[str, Any]:
    """Return a query row without private attributes and RetrieveAETitle."""
    return {
        name: element for name, element in row.items() if not is_archive_private(name) and name != _RETRIEVE_AE_TITLE
    }
