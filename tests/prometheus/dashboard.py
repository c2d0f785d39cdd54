"""The dashboard's queries and labels."""

import json
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from sidecar.telemetry.metrics import Metrics

FILE = Path(__file__).parents[2] / "config" / "grafana" / "dashboard.json"
DASHBOARD = json.loads(FILE.read_text())


def expressions() -> list[tuple[str, str]]:
    """Each panel's title and query."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


def labels() -> dict[str, set[str]]:
    """Every series name that is exposed, and its labels."""
    found: dict[str, set[str]] = {}
    for collector in vars(Metrics("1")).values():
        if not isinstance(collector, MetricWrapperBase):
            continue
        for family in collector.describe():
            own = set(collector._labelnames)
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(
                family.type, [""]
            )
            for suffix in suffixes:
                found[family.name + suffix] = own
    return found
