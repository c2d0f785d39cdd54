"""An archive with a study of one patient and one of another, and what establishes owners."""

from typing import Any

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.pacs.ownership import Ownership
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row

OWN, OTHER = PatientIdentifier("p1"), PatientIdentifier("p2")
KNOWN = frozenset({OWN, OTHER, PatientIdentifier("p3")})
"""Whoever asks here is known by all of these, unless the test is about that."""
STUDY, SERIES = "1.2", "1.2.1"
FOREIGN_STUDY, FOREIGN_SERIES = "1.9", "1.9.1"


def archive(*, filters: bool = True, instances: int = 3) -> FakePacs:
    """Two studies of two patients, each with one series; the rows have the UIDs of all levels."""
    return FakePacs(
        *(row("p1", STUDY, SERIES, f"{SERIES}.{number}") for number in range(instances)),
        *(
            row("p2", FOREIGN_STUDY, FOREIGN_SERIES, f"{FOREIGN_SERIES}.{number}")
            for number in range(instances)
        ),
        filters=filters,
    )


def ownership(
    pacs: FakePacs,
    clock: Clock | None = None,
    invalidation: Invalidation | None = None,
    **more: Any,
) -> Ownership:
    """With the product's times and few entries, or others."""
    given: dict[str, Any] = {"ttl_seconds": 300.0, "absent_seconds": 5.0, "max_entries": 100} | more
    return Ownership(
        pacs, clock=clock or Clock(), invalidation=invalidation or Invalidation(), **given
    )
