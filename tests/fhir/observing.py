"""A look of a catalog, outside of an event loop."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from sidecar.dicom.json_model import Row
from sidecar.fhir.catalog.catalog import Catalog


def observe(
    catalog: Catalog,
    patient: str,
    rows: Sequence[Row],
    series: Mapping[str, Sequence[Row]] | None = None,
) -> dict[str, datetime]:
    """Return when each study was first seen like this, by StudyInstanceUID."""
    return asyncio.run(catalog.look(patient, rows, series))
