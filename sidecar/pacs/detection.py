"""Detect the PACS product by what only that product has, never by a version."""

import re

from sidecar.common.fetch import FetchFailed
from sidecar.pacs.client import PacsClient

_DCM4CHEE_ROOT = re.compile(r"/aets/[^/]+/rs$")


async def detect_dialect(client: PacsClient) -> str | None:
    """Return the name of the PACS's dialect, ``None`` if it is unknown.

    dcm4chee-arc has DICOMweb below ``/aets/<AE title>/rs``. Orthanc's plugin answers ``/info``
    below its root.
    """
    if _DCM4CHEE_ROOT.search(client.root):
        return "dcm4chee"
    answer = await client.peek("info")
    if answer is None:
        return None
    try:
        info = answer.json()
    except FetchFailed:
        return None
    return "orthanc" if isinstance(info, dict) and "DicomWebRoot" in info else None
