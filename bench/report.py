"""Tables and plots of the stored results: in ``bench/results/`` and in ``docs/performance.md``."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import scale
from bench.aims import aims_table
from bench.measurements import RESULTS, Measurement, load, tables
from bench.plots import plot
from bench.region import Region

SECTIONS = ("small", "search", "streams", "memory", "start", "ratios")
DOCS = Path(__file__).parent.parent / "docs"
_FROM_DOCS = "../bench/results/"
CAPACITY = "capacity"
"""The part that is in the runbook; all others are in performance.md."""


def write() -> None:
    """Write all files."""
    for path, text in files().items():
        path.write_text(text)


def main() -> int:
    """Write all files."""
    write()
    return 0


def files() -> dict[Path, str]:
    """Return what the stored results make of each file: tables, plots, documents."""
    texts = blocks()
    documents = {
        DOCS / "performance.md": {name: texts[name] for name in texts if name != CAPACITY},
        DOCS / "runbook.md": {CAPACITY: texts[CAPACITY]},
    }
    tables_alone = "\n\n".join(texts.values()).replace(f"({_FROM_DOCS}", "(")
    return (
        {RESULTS / "tables.md": tables_alone + "\n"}
        | {RESULTS / name: text for name, text in plots().items()}
        | {path: filled(path.read_text(), within) for path, within in documents.items()}
    )


def blocks() -> dict[str, str]:
    """Return the Markdown of each part of the documents by its name."""
    results = {name: load(name) for name in SECTIONS}
    everything = [each for _, measurements in results.values() for each in measurements]
    texts = {"aims": aims_table(everything)}
    for name, (machine, measurements) in results.items():
        texts[name] = f"{_with_plots(measurements)}\n\n{_where(machine)}"
    region, costs = Region(), scale.measured_costs()
    return texts | {
        "scale": scale.report(region, costs),
        CAPACITY: scale.capacity(region, costs),
    }


def _where(machine: Mapping[str, str]) -> str:
    """Return what it was measured on; and whether others used more than half of a core of two."""
    text = f"Measured on: {'; '.join(f'{key} {value}' for key, value in machine.items())}."
    is_busy = float(machine["load before"]) > int(machine["cores"]) / 4
    return text + " **The machine was busy: rates and times mean nothing.**" * is_busy


def filled(document: str, texts: Mapping[str, str]) -> str:
    """Return the document with each text between its marks, ``<!-- NAME -->`` and ``<!-- end -->``.

    Raises ValueError where a mark is missing.
    """
    for name, text in texts.items():
        before, begin, rest = document.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"no place for {name}")
        document = f"{before}{begin}{text}\n{end}{after}"
    return document


def plots() -> dict[str, str]:
    """Return the plots' SVG by their file names."""
    return {
        _file_name(measurements): plot(measurements)
        for name in SECTIONS
        for measurements in _by_metric(load(name)[1])
        if _is_worth_a_plot(measurements)
    }


def _with_plots(measurements: Sequence[Measurement]) -> str:
    texts = []
    for each in _by_metric(measurements):
        texts.append(tables(each))
        if _is_worth_a_plot(each):
            title = f"{each[0].group}: {each[0].metric}"
            texts.append(f"![{title}]({_FROM_DOCS}{_file_name(each)})")
    return "\n\n".join(texts)


def _by_metric(measurements: Sequence[Measurement]) -> list[list[Measurement]]:
    """Return what is in one table: those of one group and metric."""
    keys = dict.fromkeys((each.group, each.metric) for each in measurements)
    return [[each for each in measurements if (each.group, each.metric) == key] for key in keys]


def _is_worth_a_plot(measurements: Sequence[Measurement]) -> bool:
    return len(measurements) > 5


def _file_name(measurements: Sequence[Measurement]) -> str:
    title = f"{measurements[0].group} {measurements[0].metric}".lower()
    return re.sub(r"[^a-z0-9]+", "-", title.replace("µ", "u")).strip("-") + ".svg"
