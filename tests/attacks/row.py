"""A row of the attack table, and what its rows are about."""

from dataclasses import dataclass

from tests.fakes.archive import STUDY
from tests.fakes.ehr import PATIENT

FOREIGN = "1.2.840.99.5"
ROOT = f"/fhir/Patient/{PATIENT}/$wado-rs"
OWN = f"{ROOT}/studies/{STUDY}"
REFUSED = frozenset({400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 431, 501, 505})


@dataclass(frozen=True)
class Row:
    """``statuses``: empty means that the connection may just be closed."""

    name: str
    data: bytes
    statuses: frozenset[int]
    pacs: str = "nothing"


def row(name: str, data: bytes, *statuses: int, pacs: str = "nothing") -> Row:
    """A short name."""
    return Row(name, data, frozenset(statuses), pacs)
