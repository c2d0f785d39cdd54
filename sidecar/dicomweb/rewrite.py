"""DICOM JSON for clients: the PACS's URLs become ours, the archive's notes are left out."""

import re
from collections.abc import Mapping
from typing import Any

from sidecar.dicom.json_model import Row, tag, values_of
from sidecar.dicomweb.bulkdata_uris import MAXIMUM_URL_LENGTH, BulkDataUris, resource_among

RETRIEVE_URL = "00081190"
# RetrieveURL, RetrieveURI, PixelDataProviderURL. The last two were UT before DICOM had the VR UR.
_URL_ATTRIBUTES = frozenset({RETRIEVE_URL, "0040E010", "00287FE0"})
# Private creators of an archive's own notes (access control, storage), also in the metadata of
# instances.
_ARCHIVE_CREATORS = frozenset({"DCM4CHEE Archive 5"})
# The archive's address in another protocol, of no use here.
_RETRIEVE_AE_TITLE = tag("RetrieveAETitle")
_PERSON_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_VR = re.compile(r"[A-Z]{2}", re.ASCII)
MAXIMUM_DEPTH = 64


class TooDeep(ValueError):
    """Sequences are nested deeper than ``MAXIMUM_DEPTH``, as in no real image."""


def our_url(url: object, root: str) -> str | None:
    """Return the URL of the same DICOMweb resource below our ``root``, if ``url`` names one.

    ``http://pacs:8042/dicom-web/studies/1.2/bulkdata`` -> ``<root>/studies/1.2/bulkdata``. The URL
    may be relative. It is read by the grammar of our own paths and written anew.
    """
    if not isinstance(url, str) or len(url) > MAXIMUM_URL_LENGTH:
        return None
    resource = resource_among(url.removesuffix("/").split("/"))
    return None if resource is None else resource.url(root)


def rewrite_row(row: Row, root: str, *, uris: BulkDataUris | None = None) -> dict[str, Any]:
    """Return a copy of a DICOM JSON object with URLs below ``root``.

    Each attribute has the shape of PS3.18 F.2.2. ``uris`` rewrites BulkDataURIs; it is ``None`` for
    a query's row, where they are read as any other URL. A URL that cannot be rewritten is dropped:
    it would reveal the archive's address. Raises ``TooDeep``.
    """
    return _copy(row, root, uris, 0)


def _copy(
    row: Mapping[str, Any], root: str, uris: BulkDataUris | None, depth: int
) -> dict[str, Any]:
    if depth > MAXIMUM_DEPTH:
        raise TooDeep
    notes = archive_notes(row)
    return {
        name: rewrite_element(name, element, root, uris, depth)
        for name, element in row.items()
        if isinstance(element, Mapping) and not (notes and block(name) in notes)
    }


def archive_notes(row: Mapping[str, Any]) -> set[str]:
    """Return the private blocks (PS3.5 7.8.1) that the archive reserved for itself."""
    return {
        block(name) for name, element in row.items() if is_creator(name) and _names_archive(element)
    }


def is_creator(name: str) -> bool:
    """Return whether a tag is that of a private creator, such as ``77770010``."""
    return name[4:6] == "00" and is_archive_private(name)


def _names_archive(creator: object) -> bool:
    return any(
        isinstance(value, str) and value.strip(" \0") in _ARCHIVE_CREATORS
        for value in values_of(creator)
    )


def block(name: str) -> str:
    """Return the private block of a creator or a private element: ``77770010`` -> ``777710``."""
    return (name[:4] + (name[6:8] if name[4:6] == "00" else name[4:6])).upper()


def rewrite_element(
    name: str, element: Mapping[str, Any], root: str, uris: BulkDataUris | None, depth: int
) -> dict[str, Any]:
    """Return an attribute with its VR, and at most one of Value, BulkDataURI and InlineBinary.

    PS3.18 F.2.2 has no other members.
    """
    vr = element.get("vr")
    if not isinstance(vr, str) or not _VR.fullmatch(vr):
        vr = "UN"
    if vr == "UR" or name.upper() in _URL_ATTRIBUTES:
        urls = [ours for url in values_of(element) if (ours := our_url(url, root))]
        return {"vr": "UR", "Value": urls} if urls else {"vr": "UR"}
    if "BulkDataURI" in element:
        uri = element["BulkDataURI"]
        url = our_url(uri, root) if uris is None else uris.ours(name, uri)
        return {"vr": vr, "BulkDataURI": url} if url else {"vr": vr}
    values = [rewrite_value(value, vr == "SQ", root, uris, depth) for value in values_of(element)]
    if values:
        return {"vr": vr, "Value": values}
    inline = element.get("InlineBinary")
    return {"vr": vr, "InlineBinary": inline} if isinstance(inline, str) else {"vr": vr}


def rewrite_value(
    value: object, is_item: bool, root: str, uris: BulkDataUris | None, depth: int
) -> object:
    """Return a value of an attribute in a data set at ``depth``.

    ``is_item``: the attribute is a sequence. A value that is no item is no container, or it is a
    person name, of which the groups are left.
    """
    if is_item:
        return _copy(value, root, uris, depth + 1) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        return {
            group: value[group]
            for group in _PERSON_NAME_GROUPS
            if isinstance(value.get(group), str)
        }
    return None if isinstance(value, list) else value


def is_archive_private(name: str) -> bool:
    """Return whether a tag is private: its group is odd.

    In query answers private attributes are the archive's own notes (dcm4chee: 7777).
    """
    return not _TAG.fullmatch(name) or int(name[:4], 16) % 2 == 1


def public_attributes(row: Row) -> dict[str, Any]:
    """Return a query row without private attributes and RetrieveAETitle."""
    return {
        name: element
        for name, element in row.items()
        if not is_archive_private(name) and name != _RETRIEVE_AE_TITLE
    }
