"""What differs between PACSs, as data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """Facts on one PACS product.

    ``page_size``: rows that one QIDO request asks for. ``true_timezone``: whether TimezoneOffsetFromUTC in its answers
    comes from the images (Orthanc writes ``+0000`` whatever the truth). ``bulkdata``: its segment before a bulk data
    path.
    """

    name: str
    page_size: int = 500
    true_timezone: bool = True
    bulkdata: str = "bulkdata"


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (Dialect("generic"), Dialect("orthanc", true_timezone=False, bulkdata="bulk"), Dialect("dcm4chee"))
}
