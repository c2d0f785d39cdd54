"""The figures of docs/comparison.md are those of docs/performance.md, which `make bench` writes."""

import re

from tests.markdown import ROOT


def _rows(document: str, marker: str) -> list[list[str]]:
    """Return the cells of the table below a marker."""
    text = (ROOT / "docs" / document).read_text().partition(f"<!-- {marker} -->\n")[2]
    table = re.match(r"(?:\|.*\n)+", text)
    assert table is not None
    return [
        [cell.strip("* ") for cell in line.strip("| ").split(" | ")]
        for line in table[0].splitlines()[2:]
    ]


def test_each_figure_was_measured() -> None:
    measured = [[row[0], *row[1:5], row[6]] for row in _rows("performance.md", "aims")]
    rows = _rows("comparison.md", "measured")
    assert len(rows) > 5
    assert [row for row in rows if row not in measured] == []


def test_what_is_said_of_small_answers_is_measured() -> None:
    (frame,) = [row for row in _rows("comparison.md", "measured") if "µs a request" in row[0]]
    nginx, mod_auth_openidc, ours = (float(frame[at]) for at in (2, 3, 5))
    text = " ".join((ROOT / "docs/comparison.md").read_text().split())
    times = re.search(r"takes (\d+) times nginx's CPU and (\d+) times that of mod_auth", text)
    assert times is not None
    assert [int(one) for one in times.groups()] == [
        round(ours / nginx),
        round(ours / mod_auth_openidc),
    ]
