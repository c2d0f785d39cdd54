"""Measure 1, 2 and 4 workers in one run: throughput, CPU, memory, and who accepts connections.

python -m bench.workers [--rounds N] [--seconds S]

``wrk`` (and curl for streams) loads each peer in turn, so that all see the same machine. nginx is
the archive, and the peer that shows what the machine gives. Printed are medians, ratios to one
worker, the CPU of all workers, and the share of the connections that the busiest worker had.
"""

import argparse
import contextlib
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import yaml

from bench.accepting import compare_sockets
from bench.upstreams import STUDY, Nginx, nginx
from tests.command import Serving, serving
from tests.fakes.ehr import TOKEN

WORKERS = (1, 2, 4)
CONNECTIONS, STREAMS = 24, 4
ACCEPT = 'Accept: multipart/related; type="{}"; transfer-syntax=*'
INSTANCE, FRAME = ACCEPT.format("application/dicom"), ACCEPT.format("application/octet-stream")
FHIR = "Accept: application/fhir+json"
SIDECAR, NGINX = "/wado-rs", "/with-length"
_ANSWERS = re.compile(r"(\d+) requests in ([\d.]+)(m?s),")


@dataclass(frozen=True, slots=True)
class Result:
    """What one load gave: requests, seconds, CPU seconds, connections of the busiest worker."""

    requests: int
    seconds: float
    cpu: float
    busiest: float


@dataclass
class Peer:
    """A server under load: its name, its URL, and the processes that answer."""

    name: str
    url: str
    processes: list[psutil.Process]
    results: dict[str, list[Result]] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of its processes until now."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def measure(self, name: str, load: Callable[[], tuple[int, float]]) -> None:
        """Record what ``load`` gets, under this name."""
        before = self.cpu_seconds()
        with _watched(self) as shares:
            requests, seconds = load()
        cpu = self.cpu_seconds() - before
        result = Result(requests, seconds, cpu, statistics.median(shares or [1]))
        self.results.setdefault(name, []).append(result)

    def connections(self) -> Counter[int]:
        """Return the number of clients' connections by process."""
        port = urlsplit(self.url).port
        return Counter(
            process.pid
            for process in self.processes
            for connection in process.net_connections("tcp")
            if connection.status == "ESTABLISHED" and connection.laddr[1] == port
        )


def _load(peer: Peer, path: str, accept: str, *, seconds: int) -> tuple[int, float]:
    """Load by wrk. Return the number of answers, and the seconds."""
    headers = [part for text in _headers(accept) for part in ("-H", text)]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"]
    output = _run([*command, *headers, peer.url + path])
    answers = _ANSWERS.search(output)
    if answers is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{peer.name}: {output}")
    unit = 1_000 if answers[3] == "ms" else 1
    return int(answers[1]), float(answers[2]) / unit


def _stream(peer: Peer, path: str, size: int) -> tuple[int, float]:
    """Load by curl, each connection with one study. Return the number of studies, and seconds."""
    headers = [part for text in _headers(INSTANCE) for part in ("-H", text)]
    parts = ["-o", "/dev/null", "-w", "%{http_code},%{size_download}\n", peer.url + path]
    begun = time.perf_counter()
    curls = [
        subprocess.Popen(["curl", "-sS", *headers, *parts], stdout=subprocess.PIPE, text=True)
        for _ in range(STREAMS)
    ]
    for curl in curls:
        status, received = curl.communicate(timeout=120)[0].split(",")
        if status != "200" or int(received) < size * 0.99:
            raise SystemExit(f"{peer.name}: {status} with {received} bytes")
    return STREAMS, time.perf_counter() - begun


def _headers(accept: str) -> tuple[str, str]:
    return f"Authorization: Bearer {TOKEN}", accept


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@contextlib.contextmanager
def _watched(peer: Peer) -> Iterator[list[float]]:
    """Yield the list to which the busiest worker's share of the connections is added."""
    shares: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if counts := peer.connections():
                shares.append(max(counts.values()) / counts.total())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield shares
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _sidecar(directory: Path, upstream: Nginx, workers: int) -> Iterator[Serving]:
    (folder := directory / str(workers)).mkdir()
    configuration = {
        "server": {"workers": workers, "public_url": "http://bench"},
        "ehr": {"fhir_url": upstream.url + "/fhir"},
        "tokens": {"client": {"method": "none"}, "cache": {"ttl_seconds": 300}},
        "pacs": {"url": upstream.url + NGINX},
        "fhir": {"catalog": {"store": "sqlite", "file": str(folder / "catalog.sqlite")}},
        "limits": {"search_cache_seconds": 300, "retrievals": 1_000},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
    with serving(folder, folder / "config.yaml") as running:
        yield running


def measure(rounds: int, seconds: int) -> None:
    """Measure small answers, searches, and streams; memory before and after."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        nginx() as upstream,
        contextlib.ExitStack() as stack,
    ):
        supervisors = []
        proxy = psutil.Process(upstream.process.pid).children()
        peers = [Peer("nginx proxy_pass", upstream.proxy_url, proxy)]
        for workers in WORKERS:
            running = stack.enter_context(_sidecar(Path(scratch), upstream, workers))
            supervisors.append(psutil.Process(running.process.pid))
            children = _children(supervisors[-1], workers)
            peers.append(Peer(f"workers: {workers}", running.url, children))
        _report_memory("Memory at rest", supervisors, peers[1:])
        for number in range(rounds + 1):
            for peer in peers:
                studies = (NGINX if peer.processes is proxy else SIDECAR) + "/studies/"
                instance = studies + upstream.instance
                load = partial(_load, peer, seconds=seconds if number else 1)
                peer.measure("one instance", partial(load, instance, INSTANCE))
                peer.measure("one frame", partial(load, instance + "/frames/1", FRAME))
                if peer.processes is not proxy:
                    peer.measure("search", partial(load, "/fhir/ImagingStudy", FHIR))
                peer.measure("studies", partial(_stream, peer, studies + STUDY, upstream.size))
                if number == 0:  # For imports, caches, pools.
                    peer.results.clear()
        for name in peers[-1].results:
            _report(name, [peer for peer in peers if name in peer.results])
        _report_memory("Memory after the load", supervisors, peers[1:])


def _children(supervisor: psutil.Process, workers: int) -> list[psutil.Process]:
    for _ in range(300):
        children = supervisor.children()
        if len(children) == workers and all(_is_ready(child) for child in children):
            return children
        time.sleep(0.1)
    raise SystemExit("the workers did not start")


def _is_ready(process: psutil.Process) -> bool:
    """Return whether it rests, with its imports done: it has used CPU, and uses none now."""
    before = sum(process.cpu_times()[:2])
    time.sleep(0.3)
    return before > 0.3 and sum(process.cpu_times()[:2]) - before < 0.02


def _report(name: str, peers: list[Peer]) -> None:
    """Print medians, and ratios to one worker."""
    clients = STREAMS if name == "studies" else CONNECTIONS
    print(f"\n{name}: {clients} connections, medians of {len(peers[0].results[name])} rounds")
    print(f"{'':18} {'a second':>9} {'ratio':>6} {'CPU ms each':>12} {'CPUs':>5} {'busiest':>8}")
    one = next(peer for peer in peers if peer.name == "workers: 1")
    rate = {
        peer.name: statistics.median(each.requests / each.seconds for each in peer.results[name])
        for peer in peers
    }
    for peer in peers:
        results = peer.results[name]
        cost = statistics.median(each.cpu / each.requests for each in results) * 1e3
        cpus = statistics.median(each.cpu / each.seconds for each in results)
        busiest = statistics.median(each.busiest for each in results)
        print(
            f"{peer.name:18} {rate[peer.name]:9.1f} {rate[peer.name] / rate[one.name]:6.2f} "
            f"{cost:12.2f} {cpus:5.2f} {busiest:8.0%}",
            flush=True,
        )


def _report_memory(title: str, supervisors: list[psutil.Process], sidecars: list[Peer]) -> None:
    """Print RSS and PSS of each supervisor, and of it with its workers."""
    print(f"\n{title}, MB")
    print(f"{'':18} {'supervisor RSS':>15} {'PSS':>5} {'all RSS':>9} {'PSS':>5}")
    for supervisor, peer in zip(supervisors, sidecars, strict=True):
        alone = [_memory(supervisor, kind) for kind in ("Rss", "Pss")]
        everything = [
            own + sum(_memory(worker, kind) for worker in peer.processes)
            for own, kind in zip(alone, ("Rss", "Pss"), strict=True)
        ]
        print("{:18} {:15.0f} {:5.0f} {:9.0f} {:5.0f}".format(peer.name, *alone, *everything))


def _memory(process: psutil.Process, kind: str) -> float:
    """Return the ``kind`` (Rss, Pss) of a process in MB."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(kind + ":"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=int, default=3, help="of each load by wrk (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("the benchmark needs wrk: apt-get install wrk")
    compare_sockets()
    measure(arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
