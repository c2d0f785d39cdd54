"""Streams: throughput and CPU by form and size of a study, and frames beside downloads."""

import statistics

from bench.archive import Archive, Shape, archive
from bench.load import FRAME, Connection, download, downloads
from bench.measurements import Samples
from bench.peers import DIRECT, Peer, site
from bench.progress import progress

FORMS = {
    "400 × 525 KB": Shape(400, 512),
    "3,400 × 60 KB": Shape(3_400, 170),
    "3,400 × 60 KB, in chunks": Shape(3_400, 170, in_chunks=True),
    "40 × 5.2 MB": Shape(40, 1_620),
    "1 × 210 MB": Shape(1, 10_240),
}
SIZES = {2.1: Shape(4, 512), 21: Shape(40, 512), 840: Shape(1_600, 512)}
"""By megabytes; the 210 in between is of the forms."""
BESIDE = (0, 1, 16)
STUDIES, BY_SIZE = "Study of 200 MB, by its instances", "Study of instances of 525 KB, by its MB"
FRAMES = "Frame of 5 KB, by downloads beside it"
SPEED, COST = "MB/s", "CPU, s/GB"
P50, P99 = "p50, ms", "p99, ms"


def measure(rounds: int, samples: Samples) -> None:
    """Measure ``rounds`` times, one peer after the other in each round."""
    with archive([*FORMS.values(), *SIZES.values()]) as upstream, site(upstream.url) as starting:
        peers = starting.proxies()
        for peer in peers:  # For imports, caches, pools.
            _download(peer, upstream, 0)
        for number in range(rounds):
            progress("studies", number, rounds)
            forms: list[str | float] = [*FORMS, *SIZES]
            for index, form in enumerate(forms):
                for peer in peers:
                    _measure_study(samples, peer, upstream, index, form)
        for number in range(min(rounds, 3)):
            progress("frames beside downloads", number, min(rounds, 3))
            for count in BESIDE:
                for peer in peers:
                    _measure_frames(samples, peer, upstream, count)


def _measure_study(
    samples: Samples, peer: Peer, upstream: Archive, index: int, form: str | float
) -> None:
    speed, cost = _download(peer, upstream, index)
    _add(samples, STUDIES if isinstance(form, str) else BY_SIZE, form, peer, speed, cost)
    if index == 0:
        _add(samples, BY_SIZE, 210, peer, speed, cost)


def _download(peer: Peer, upstream: Archive, index: int) -> tuple[float, float]:
    """Return MB/s and CPU s/GB of a study; small ones are fetched several times."""
    study = upstream.studies[index]
    times = max(1, round(100e6 / study.size))
    done = [download(peer, f"/studies/{study.uid}", study.size) for _ in range(min(times, 10))]
    size = study.size * len(done)
    return size / sum(each.seconds for each in done) / 1e6, sum(
        each.cpu for each in done
    ) / size * 1e9


def _add(
    samples: Samples, group: str, form: str | float, peer: Peer, speed: float, cost: float
) -> None:
    case, x = (form, None) if isinstance(form, str) else (f"{form:g}", form)
    samples.add(group, case, peer.name, SPEED, speed, x=x)
    if peer.name != DIRECT:
        samples.add(group, case, peer.name, COST, cost, x=x)


def _measure_frames(samples: Samples, peer: Peer, upstream: Archive, count: int) -> None:
    """Measure frames while so many downloads of 210 MB go on."""
    study = upstream.studies[0]
    frame = study.instance + "/frames/1"
    connection = Connection(peer)
    connection.paced(frame, FRAME, rate=50, seconds=0.1)
    with downloads(peer, f"/studies/{study.uid}", count):
        times = connection.paced(frame, FRAME, rate=50, seconds=2)
    percentiles = statistics.quantiles(times, n=100)
    for metric, value in ((P50, percentiles[49]), (P99, percentiles[98])):
        samples.add(FRAMES, f"{count}", peer.name, metric, value * 1e3, x=count)
