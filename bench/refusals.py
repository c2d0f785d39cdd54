"""Measure whether times show that a study exists which an app may not have (SIA-45).

``make bench ARGS=refusals`` makes 1,000 warm tries of each kind, interleaved in one run: studies
that do not exist, that are another patient's, and that a rule hides. Status and body must be the
same. The times of each kind are compared with those of studies that do not exist (two-sample
Kolmogorov-Smirnov test). "absent (again)" shows what chance does.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from sidecar.demo.samples import fill
from tests.journey.world import World, make_world

RULES = {
    "rules": [
        {
            "name": "hidden",
            "effect": "exclude",
            "study": {"StudyDescription": ["brain-mra"]},
            "unknown": "ignored",
        }
    ]
}
ABSENT = ["1.2.840.99999.1", "1.2.840.99999.2"]
SUSPICIOUS = 1.63
"""Value of D * sqrt(n*m/(n+m)) that chance exceeds once in a hundred runs."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tries", type=int, default=1_000, help="of each kind (default: %(default)s)"
    )
    tries = parser.parse_args().tries
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        images = directory / "images"
        images.mkdir()
        fill(images)
        for title, access in (("without rules", {}), ("with a rule", {"access": RULES})):
            (world_directory := directory / title.replace(" ", "-")).mkdir()
            with make_world(world_directory, images, None, access) as world:
                print(f"\n{title}: {tries} tries of each")
                for name, path in PATHS.items():
                    _compare(name, _times(world, path, _studies(world, hidden=bool(access)), tries))
    return 0


PATHS = {
    "WADO-RS study": "/wado-rs/studies/{study}",
    "WADO-RS metadata": "/wado-rs/studies/{study}/metadata",
    "QIDO-RS series": "/wado-rs/studies/{study}/series",
    "FHIR read": "/fhir/ImagingStudy/{study}",
}


def _studies(world: World, *, hidden: bool) -> dict[str, str]:
    """Return a StudyInstanceUID of each kind, for peter."""
    studies = {
        "absent": ABSENT[0],
        "absent (again)": ABSENT[1],
        "another patient's": world.of("robin")[0].study,
    }
    if hidden:
        mine = {image.study for image in world.of("peter")}
        session = world.session("peter")
        shown = session.get(f"{world.sidecar.fhir}/ImagingStudy", timeout=30).json()["entry"]
        (studies["hidden by a rule"],) = mine - {entry["resource"]["id"] for entry in shown}
    return studies


def _times(world: World, path: str, studies: dict[str, str], tries: int) -> dict[str, list[float]]:
    """Return the seconds of each try by kind. Each round has a new order."""
    session = world.session("peter")
    urls = {kind: world.sidecar.url + path.format(study=study) for kind, study in studies.items()}
    bodies = set()
    for url in urls.values():
        for _ in range(5):
            session.get(url, timeout=30)
    times: dict[str, list[float]] = {kind: [] for kind in urls}
    for _ in range(tries):
        for kind, url in random.sample(list(urls.items()), len(urls)):
            started = time.perf_counter()
            answer = session.get(url, timeout=30)
            times[kind].append(time.perf_counter() - started)
            bodies.add((answer.status_code, answer.content))
    if len(bodies) != 1:
        sys.exit(f"{path}: the refusals differ in status or body")
    return times


def _compare(name: str, times: dict[str, list[float]]) -> None:
    reference = times["absent"]
    for kind, seconds in times.items():
        difference = (
            ""
            if kind == "absent"
            else f"   KS {_statistic(reference, seconds):5.2f} (suspicious over {SUSPICIOUS})"
        )
        quantiles = statistics.quantiles(seconds, n=20)
        print(
            f"  {name:17} {kind:18} median {statistics.median(seconds) * 1e3:6.3f} ms   "
            f"p95 {quantiles[18] * 1e3:6.3f} ms{difference}"
        )


def _statistic(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sample Kolmogorov-Smirnov statistic, scaled to be independent of sizes."""
    first, second = sorted(one), sorted(other)
    largest, at, other_at = 0.0, 0, 0
    for value in sorted({*first, *second}):
        while at < len(first) and first[at] <= value:
            at += 1
        while other_at < len(second) and second[other_at] <= value:
            other_at += 1
        largest = max(largest, abs(at / len(first) - other_at / len(second)))
    return largest * sqrt(len(first) * len(second) / (len(first) + len(second)))


if __name__ == "__main__":
    sys.exit(main())
