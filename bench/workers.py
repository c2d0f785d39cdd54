"""Measure 1, 2 and 4 workers in one run: throughput, CPU, memory, and who accepts connections.

python -m bench workers [--rounds N] [--seconds S] [--share P]

``wrk`` (and curl for streams) loads each peer in turn, on all cores, so that all see the same
machine. nginx shows what the machine gives. Printed are medians with quartiles of the rate, of the
CPU that is used, and of the share of the connections that the busiest worker had. ``--share`` lets
each worker use so much of a CPU at most (as root): then load and archive have the rest, and show
what workers on cores of their own would do.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import psutil

from bench.accepting import compare_sockets
from bench.archive import Archive, Shape, archive
from bench.load import FHIR, FRAME, INSTANCE, Result, curl, many
from bench.measurements import Samples, tables
from bench.peers import TUNED, Peer, Site, site
from bench.processes import cpu_limit, cpu_seconds, family, memory
from bench.progress import progress

WORKERS = (1, 2, 4)
CONNECTIONS, STREAMS = 24, 4
RATE, CPUS, BUSIEST = "answers/s", "CPUs used", "share of the busiest worker"


def measure(rounds: int, seconds: int, share: float | None) -> None:
    """Measure small answers, searches, and streams; memory before and after."""
    samples = Samples()
    with (
        archive([Shape(400, 512)]) as upstream,
        site(upstream.url, is_pinned=False) as starting,
        contextlib.ExitStack() as stack,
    ):
        ours = [_ours(starting, workers) for workers in WORKERS]
        if share is not None:
            children = [child.pid for peer in ours for child in family(peer.process)[1:]]
            stack.enter_context(cpu_limit(children, share))
        peers = [starting.tuned(), *ours]
        _add_memory(samples, peers, "at rest")
        for number in range(rounds + 1):
            progress("workers", number, rounds + 1)
            # For imports, caches, pools, the first round is short, and forgotten.
            into = samples if number else Samples()
            for peer in peers:
                _measure(into, peer, upstream, seconds if number else 1)
        _add_memory(samples, peers, "after the load")
    print(tables(samples.measurements()))


def _ours(starting: Site, workers: int) -> Peer:
    name = f"workers: {workers}"
    file = f"{starting.folder}/catalog-{workers}.sqlite"
    catalog = {"catalog": {"store": "sqlite", "file": file}}
    return starting.ours(name, audit=False, server={"workers": workers}, fhir=catalog)


def _measure(samples: Samples, peer: Peer, upstream: Archive, seconds: int) -> None:
    (study,) = upstream.studies
    load = partial(many, peer, seconds=seconds, connections=CONNECTIONS)
    loads: dict[str, Callable[[], Result]] = {
        "one instance": lambda: load(study.instance, INSTANCE),
        "one frame": lambda: load(study.instance + "/frames/1", FRAME),
        "study": lambda: _stream(peer, f"/studies/{study.uid}", study.size),
    }
    if peer.name != TUNED:
        loads["search"] = lambda: many(
            peer.fhir(), "/ImagingStudy", FHIR, seconds=seconds, connections=CONNECTIONS
        )
    for case, get in loads.items():
        with _watched(peer) as shares:
            done = get()
        samples.add("Workers", case, peer.name, RATE, done.answers / done.seconds)
        samples.add("Workers", case, peer.name, CPUS, done.cpu / done.seconds)
        if shares:
            samples.add("Workers", case, peer.name, BUSIEST, statistics.median(shares))


def _stream(peer: Peer, path: str, size: int) -> Result:
    """Load by curl, each connection with one study."""
    before, begun = cpu_seconds(peer.process), time.perf_counter()
    curls = [
        subprocess.Popen(curl(peer, path), stdout=subprocess.PIPE, text=True)
        for _ in range(STREAMS)
    ]
    for process in curls:
        status, received, _ = process.communicate(timeout=120)[0].split(",")
        if status != "200" or int(received) < size * 0.99:
            raise SystemExit(f"{peer.name}: {status} with {received} bytes")
    seconds = time.perf_counter() - begun
    return Result(STREAMS, seconds, cpu_seconds(peer.process) - before)


@contextlib.contextmanager
def _watched(peer: Peer) -> Iterator[list[float]]:
    """Yield the list to which the busiest worker's share of the connections is added."""
    shares: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if counts := _connections(peer):
                shares.append(max(counts.values()) / counts.total())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield shares
    finally:
        done.set()
        thread.join()


def _connections(peer: Peer) -> Counter[int]:
    """Return the number of clients' connections by process."""
    port = urlsplit(peer.url).port
    return Counter(
        process.pid
        for process in family(peer.process)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.laddr[1] == port
    )


def _add_memory(samples: Samples, peers: list[Peer], when: str) -> None:
    time.sleep(2)
    for peer in peers:
        for kind in ("Pss", "Rss"):
            samples.add(
                "Memory of all processes",
                when,
                peer.name,
                f"{kind}, MB",
                memory(peer.process, kind),
            )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=int, default=3, help="of each load by wrk (default: %(default)s)"
    )
    parser.add_argument(
        "--share", type=float, help="of a CPU, for each worker (default: all of it)"
    )
    arguments = parser.parse_args()
    compare_sockets()
    measure(arguments.rounds, arguments.seconds, arguments.share)
    return 0


if __name__ == "__main__":
    sys.exit(main())
