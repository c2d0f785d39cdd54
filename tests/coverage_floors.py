"""Hold the measured branch coverage against its floors; ``make coverage`` ends with this.

The floors are in ``tables/coverage_floors.toml``. They are only ever raised.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FLOORS = Path(__file__).parent / "tables" / "coverage_floors.toml"
SLACK = 0.5
"""Percent above a floor that are no reason to raise it: timing decides some branches."""


def percent(summaries: Iterable[Mapping[str, int]]) -> float:
    """Return how many of the lines and branches were run, in percent, as coverage.py counts."""
    found = list(summaries)
    run = sum(one["covered_lines"] + one["covered_branches"] for one in found)
    whole = sum(one["num_statements"] + one["num_branches"] for one in found)
    return 100 * run / whole if whole else 0.0


def verdicts(floors: Mapping[str, float], files: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return which floors were not reached and which can be raised, as sentences.

    ``floors``: folder -> percent; ``files``: of ``coverage json``.
    """
    failures, raises = [], []
    for folder, floor in floors.items():
        measured = percent(
            one["summary"] for file, one in files.items() if file.startswith(f"{folder}/")
        )
        if measured < floor:
            failures.append(f"{folder}: the floor is {floor}, measured {measured:.2f}")
        elif measured >= floor + SLACK:
            raises.append(f"{folder}: the floor is {floor}, measured {measured:.2f}: raise it")
    return failures, raises


def main() -> int:
    """Return 1 when a floor was not reached; name the lines and branches that are missing there."""
    command = [sys.executable, "-m", "coverage"]
    answer = subprocess.run([*command, "json", "-q", "-o", "-"], stdout=subprocess.PIPE, check=True)
    floors = tomllib.loads(FLOORS.read_text())
    failures, raises = verdicts(floors, json.loads(answer.stdout)["files"])
    for sentence in [*failures, *raises]:
        print(sentence)
    for folder in (sentence.partition(":")[0] for sentence in failures):
        subprocess.run(
            [*command, "report", "-m", "--skip-covered", f"--include={folder}/*"], check=False
        )
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
