"""Detect the PACS product by what only that product has, never by a version."""

import re

from sidecar.common.fetch import FetchFailed
from sidecar.pacs.client import PacsClient

_DCM4CHEE_ROOT = re.compile(r"/aets/[^/]+/rs$")
_DCM4CHEE = re.compile(r".*/dcm4chee-arc(?=/|$)")


async def detect_dialect(client: PacsClient) -> str | None:
    """Return the name of the PACS's dialect, ``None`` if it is unknown.

    dcm4chee-arc has DICOMweb below ``/aets/<AE title>/rs``. Orthanc's plugin answers ``/info``
    below its root.
    """
    if _is_dcm4chee(client):
        return "dcm4chee"
    return "orthanc" if await _is_orthanc(client, "info") else None


async def likely_root(client: PacsClient) -> str | None:
    """Return the DICOMweb root that is probably meant, ``None`` if the client's may be it."""
    root = client.root.removesuffix("/studies")
    if root != client.root:
        return root
    if await _is_orthanc(client, "dicom-web/info"):
        return client.root + "/dicom-web"
    match = _DCM4CHEE.match(client.root)
    return f"{match[0]}/aets/<AE title>/rs" if match and not _is_dcm4chee(client) else None


def _is_dcm4chee(client: PacsClient) -> bool:
    return _DCM4CHEE_ROOT.search(client.root) is not None


async def _is_orthanc(client: PacsClient, name: str) -> bool:
    answer = await client.peek(name)
    try:
        info = answer.json() if answer is not None else None
    except FetchFailed:
        return False
    return isinstance(info, dict) and "DicomWebRoot" in info
