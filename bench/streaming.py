"""Measure how fast a study streams: directly, and through nginx, a bare proxy and the sidecar.

python -m bench.streaming [ROUNDS]

Each round fetches the study once from each peer, so that all see the same machine. Printed are
medians, and ratios to the bare proxy: bytes a second, CPU seconds of the proxy per GB, and the most
that its resident set grew to.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.upstreams import STUDY, Nginx, nginx
from tests.fakes.ehr import TOKEN
from tests.sidecar_process import SidecarProcess, free_port

CURL = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code},%{size_download},%{time_total}", "-H"]
ACCEPT = "Accept: multipart/related; type=application/dicom; transfer-syntax=*"


@dataclass
class Peer:
    """A way to the study: its URL, the process that is measured (``None``: none), the results."""

    name: str
    url: str
    process: int | None
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)

    def fetch(self, size: int) -> None:
        """Fetch once with curl, and record time, CPU and memory."""
        command = [*CURL, f"Authorization: Bearer {TOKEN}", "-H", ACCEPT, self.url]
        before = _cpu_seconds(self.process)
        with _watched(self.process) as peak:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        status, received, seconds = done.stdout.split(",")
        if status != "200" or int(received) < size * 0.99:
            raise SystemExit(f"{self.name}: {done.stdout}")
        self.seconds.append(float(seconds))
        self.cpu.append(_cpu_seconds(self.process) - before)
        self.resident.append(peak[0])


def _cpu_seconds(process: int | None) -> float:
    if process is None:
        return 0
    root = psutil.Process(process)
    return sum(sum(each.cpu_times()[:2]) for each in (root, *root.children(recursive=True)))


@contextlib.contextmanager
def _watched(process: int | None) -> Iterator[list[int]]:
    peak, done = [0], threading.Event()

    def watch() -> None:
        while process is not None and not done.wait(0.02):
            peak[0] = max(peak[0], psutil.Process(process).memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _bare_proxy(upstream: str) -> Iterator[tuple[str, int]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.bare_proxy", str(port), upstream])
    try:
        time.sleep(1.5)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)


def _sidecar(directory: Path, upstream: Nginx, form: str) -> SidecarProcess:
    configuration = {
        "ehr": {"fhir_url": upstream.url + "/fhir"},
        "tokens": {"client": {"method": "none"}},
        "pacs": {"url": f"{upstream.url}/{form}"},
        "log": {"level": "INFO"},
    }
    return SidecarProcess(directory, configuration)


def measure(form: str, rounds: int) -> None:
    """Measure with parts of a ``form`` (``with-length``, ``without-length``, ``in-chunks``)."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        nginx() as upstream,
        _bare_proxy(upstream.url) as (bare_url, bare),
        _sidecar(Path(scratch), upstream, form) as sidecar,
    ):
        path = f"/{form}/studies/{STUDY}"
        peers = [
            Peer("nginx, the file itself", upstream.url + path, None),
            Peer("nginx proxy_pass", upstream.proxy_url + path, None),
            Peer("bare aiohttp proxy", bare_url + path, bare),
            Peer("sidecar", f"{sidecar.url}/wado-rs/studies/{STUDY}", sidecar.process_id),
        ]
        for number in range(rounds + 1):
            for peer in peers:
                peer.fetch(upstream.size)
                if number == 0:  # Warm: imports, caches, pools.
                    peer.seconds.clear()
                    peer.cpu.clear()
                    peer.resident.clear()
        report(form, peers, upstream.size)


def report(form: str, peers: list[Peer], size: int) -> None:
    """Print medians, and ratios to the bare proxy."""
    bare = next(peer for peer in peers if peer.name == "bare aiohttp proxy")
    print(f"\nParts {form}: {size / 1e6:.0f} MB, medians of {len(bare.seconds)} rounds")
    print(f"{'':24} {'MB/s':>7} {'ratio':>6} {'CPU s/GB':>9} {'ratio':>6} {'peak RSS MB':>12}")
    for peer in peers:
        seconds = statistics.median(peer.seconds)
        ratio = statistics.median(bare.seconds) / seconds
        line = f"{peer.name:24} {size / seconds / 1e6:7.0f} {ratio:6.2f}"
        if peer.process is not None:
            cpu, base = (statistics.median(way.cpu) / size * 1e9 for way in (peer, bare))
            line += f" {cpu:9.2f} {cpu / base:6.2f} {max(peer.resident) / 2**20:12.0f}"
        print(line, flush=True)


def main() -> None:
    """Measure all forms."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for form in ("with-length", "without-length", "in-chunks"):
        measure(form, rounds)


if __name__ == "__main__":
    main()
