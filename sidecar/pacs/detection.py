"""Which product is the PACS? By what only one of them has, never by guesses on versions."""

import re

from sidecar.common.fetch import FetchFailed
from sidecar.pacs.client import PacsClient

_DCM4CHEE_ROOT = re.compile(r"/aets/[^/]+/rs$")


async def detect_dialect(client: PacsClient) -> str | None:
    """Return the name of the dialect that the PACS speaks, ``None`` when nothing tells.

    dcm4chee-arc has its DICOMweb below ``/aets/<AE title>/rs``; Orthanc's plugin answers ``/info``
    below its root.
    """
    if _DCM4CHEE_ROOT.search(client.root):
        return "dcm4chee"
    answer = await client.peek("info")
    if answer is None:
        return None
    try:
        found = answer.json()
    except FetchFailed:
        return None
    return "orthanc" if isinstance(found, dict) and "DicomWebRoot" in found else None
