"""Counts of streams by their outcome."""

from sidecar.bootstrap.build import Sidecar
from tests.waiting import wait_until_async


def streams(sidecar: Sidecar, outcome: str, kind: str = "study") -> float:
    return (
        sidecar.metrics.registry.get_sample_value(
            "smart_imaging_streams_total", {"kind": kind, "outcome": outcome}
        )
        or 0.0
    )


async def counted(sidecar: Sidecar, outcome: str, kind: str = "study") -> float:
    """How many streams ended so, when there is one: a client may have the last byte before it is
    counted.
    """
    return await wait_until_async(outcome, lambda: streams(sidecar, outcome, kind))
