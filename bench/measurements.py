"""What was measured: medians with quartiles, stored as JSON, shown as tables."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Measurement:
    """The median of several rounds, with the quartiles.

    ``group`` is what was measured (one table and one plot for each ``metric`` of it), ``case`` the
    line of the table, and ``peer`` its column. ``metric`` ends with its unit. ``x`` is the number
    that grows from case to case, if one does.
    """

    group: str
    case: str
    peer: str
    metric: str
    median: float
    lower: float
    upper: float
    rounds: int
    x: float | None = None

    def text(self) -> str:
        """Return the median and, where there are some, the quartiles in brackets."""
        if self.rounds == 1:
            return figure(self.median)
        return f"{figure(self.median)} ({figure(self.lower)}–{figure(self.upper)})"


class Samples:
    """Collects the values of the rounds."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str, str], tuple[float | None, list[float]]] = {}

    def add(
        self, group: str, case: str, peer: str, metric: str, value: float, *, x: float | None = None
    ) -> None:
        """Add the value of a round."""
        self._values.setdefault((group, case, peer, metric), (x, []))[1].append(value)

    def measurements(self) -> list[Measurement]:
        """Return the medians, in the order in which their first values came."""
        return [
            Measurement(*key, *quartiles(values), len(values), x)
            for key, (x, values) in self._values.items()
        ]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the lower and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return median, lower, upper


def figure(value: float) -> str:
    """Return a number as people read it: three digits that count, thousands with commas."""
    if math.isinf(value):
        return "never"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def tables(measurements: Sequence[Measurement]) -> str:
    """Return Markdown: a table for each group and metric; a line for each case, a column a peer."""
    texts = []
    for group, metric in dict.fromkeys((each.group, each.metric) for each in measurements):
        ours = [each for each in measurements if (each.group, each.metric) == (group, metric)]
        peers = list(dict.fromkeys(each.peer for each in ours))
        cells = {(each.case, each.peer): each.text() for each in ours}
        texts.append(
            f"**{group}**: {metric}\n\n"
            + table(
                ["", *peers],
                [
                    [case, *(cells.get((case, peer), "–") for peer in peers)]
                    for case in dict.fromkeys(each.case for each in ours)
                ],
            )
        )
    return "\n\n".join(texts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def store(section: str, machine: dict[str, str], measurements: Sequence[Measurement]) -> None:
    """Store a section's measurements with the machine's description."""
    document = {"machine": machine, "measurements": [asdict(each) for each in measurements]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{section}.json").write_text(json.dumps(document, indent=1) + "\n")


def load(section: str) -> tuple[dict[str, str], list[Measurement]]:
    """Return a section's machine and measurements; nothing where it was not stored."""
    file = RESULTS / f"{section}.json"
    if not file.exists():
        return {}, []
    document = json.loads(file.read_text())
    return document["machine"], [Measurement(**each) for each in document["measurements"]]
