"""Samples of the archive's rows, which checks take for no patient."""

from sidecar.access.permits import Inquiry
from sidecar.bootstrap.build import Sidecar
from sidecar.check.outcome import skipped
from sidecar.dicom.json_model import Row
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield

NO_STUDY = skipped("the archive has no study that we may see: nothing to look at")


async def sample(
    sidecar: Sidecar, query: Query, *keywords: str, limit: int = 50, offset: int = 0
) -> list[Row]:
    """Return the first rows of a query, with these attributes. Raises ``Problem``."""
    return await sidecar.pacs.search(
        query,
        (includefield(*keywords),) if keywords else (),
        limit=limit,
        offset=offset,
        permit=Inquiry(frozenset()),
    )
