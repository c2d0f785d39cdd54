"""What the measured figures should be (``aims.csv``), and whether they are."""

import csv
from collections.abc import Sequence
from pathlib import Path

from bench.measurements import Measurement, figure, table
from bench.peers import BARE, DIRECT, OPENIDC, TUNED

_PEERS = (DIRECT, TUNED, OPENIDC, BARE)
_FILE = Path(__file__).with_suffix(".csv")
Aim = dict[str, str]
"""Columns: ``over`` and ``minus`` are peers by whose figure ours is divided, or lessened."""


def read_aims() -> list[Aim]:
    """Return the lines of the file."""
    with _FILE.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def value(aim: Aim, results: Sequence[Measurement], peer: str) -> float | None:
    """Return the peer's figure; None where it was not measured."""
    medians = {
        each.peer: each.median
        for each in results
        if (each.group, each.case, each.metric) == (aim["group"], aim["case"], aim["metric"])
    }
    if not {peer, aim["over"] or peer, aim["minus"] or peer} <= medians.keys():
        return None
    if aim["over"]:
        return medians[peer] / medians[aim["over"]]
    return medians[peer] - medians.get(aim["minus"], 0)


def is_met(aim: Aim, now: float) -> bool:
    """Return whether the figure is what it should be."""
    limit = float(aim["limit"])
    return now >= limit if aim["aim"] == "≥" else now <= limit


def aims_table(results: Sequence[Measurement]) -> str:
    """Return Markdown: each aim, what the peers have, what ours had before and has now."""
    rows = []
    for aim in read_aims():
        now = value(aim, results, aim["peer"])
        met = "–" if now is None else "yes" if is_met(aim, now) else "**no**"
        peers = [_text(value(aim, results, peer)) for peer in _PEERS]
        wanted = f"{aim['aim']} {float(aim['limit']):,g}"
        rows.append([aim["what"], *peers, aim["before"] or "–", _text(now), wanted, met])
    return table(["", *_PEERS, "ours, before", "**ours, now**", "aim", "met"], rows)


def _text(number: float | None) -> str:
    return "–" if number is None else figure(number)
