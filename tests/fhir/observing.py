"""A look of a catalog, outside of an event loop."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from sidecar.dicom.json_model import Row
from sidecar.fhir.catalog.catalog import Catalog, fingerprints


def observe(
    catalog: Catalog,
    patient: str,
    rows: Sequence[Row],
    series: Mapping[str, Sequence[Row]] | None = None,
) -> dict[str, datetime]:
    """Return when each study was first seen like this, by StudyInstanceUID."""

    async def look() -> dict[str, datetime]:
        return await catalog.look(patient, await fingerprints(rows, series))

    return asyncio.run(look())
