"""Memory and start: at rest, by tokens, with slow clients, and what is kept afterwards."""

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bench.archive import Shape, archive
from bench.load import FRAME, INSTANCE, headers, many, token_script
from bench.measurements import Samples
from bench.peers import OURS, Peer, Site, site
from bench.processes import family, memory, peak_memory
from bench.progress import progress

SHAPES = (Shape(instances=400, side=512), Shape(instances=1, side=170))
SLOW = (100, 500)
SLOW_BYTES, SLOW_SECONDS, SETTLED_SECONDS = 16_384, 6, 5
"""What a slow client takes in a second, how long it does, and the rest that memory gets after."""
RESTING = "At rest"
WITH_SLOW = "Slow clients of a study of 210 MB, by their number"
TOKENS = "Memory of tokens that are remembered"
READY, ALL, WORKER = "start to ready", "all processes (PSS)", "worker alone (RSS)"
PEAK, KEPT = "most memory over that at rest, MB", "memory kept afterwards over that at rest, MB"
SECONDS, MEGABYTES = "seconds", "MB"
A_CLIENT, A_TOKEN = "most memory, KiB a client", "bytes"
_STARTS = (Site.tuned, Site.bare, Site.ours)


def measure_start(rounds: int, samples: Samples) -> None:
    """Measure the time to the first answer, and memory a second later; three times at most."""
    with archive(SHAPES[1:]) as upstream:
        for number in range(min(rounds, 3)):
            progress("starts", number, min(rounds, 3))
            for start in _STARTS:
                with site(upstream.url) as starting:
                    begun = time.perf_counter()
                    peer = start(starting)
                    seconds = time.perf_counter() - begun
                    time.sleep(1)
                    samples.add(RESTING, READY, peer.name, SECONDS, seconds)
                    samples.add(RESTING, ALL, peer.name, MEGABYTES, memory(peer.process))
                    last = family(peer.process)[-1].pid
                    samples.add(RESTING, WORKER, peer.name, MEGABYTES, memory(last, "Rss"))


def measure(rounds: int, samples: Samples) -> None:
    """Measure once, whatever ``rounds``: it takes long, and differs little."""
    del rounds
    with archive(SHAPES) as upstream:
        for number, count in enumerate(SLOW):
            progress("slow clients", number, len(SLOW))
            for start in _STARTS:
                with site(upstream.url) as starting:
                    path = f"/studies/{upstream.studies[0].uid}"
                    _measure_slow(samples, start(starting), path, count)
        with site(upstream.url) as starting:
            frame = upstream.studies[1].instance + "/frames/1"
            _measure_tokens(samples, starting.ours(), frame)


def _measure_slow(samples: Samples, peer: Peer, path: str, count: int) -> None:
    with slow_clients(peer, path, 1, 0.5):
        pass  # For imports, caches, pools.
    time.sleep(1)
    idle = memory(peer.process)
    with peak_memory(peer.process) as peak, slow_clients(peer, path, count, SLOW_SECONDS):
        pass
    time.sleep(SETTLED_SECONDS)
    grown, kept = peak[0] - idle, memory(peer.process) - idle
    for metric, value in ((PEAK, grown), (KEPT, kept), (A_CLIENT, grown / count * 1e6 / 1_024)):
        samples.add(WITH_SLOW, f"{count}", peer.name, metric, value, x=count)


@contextlib.contextmanager
def slow_clients(peer: Peer, path: str, count: int, seconds: float) -> Iterator[None]:
    """Connect ``count`` clients, each of which takes 16 KB a second for so long; then they go."""
    where = urlsplit(peer.url)
    fields = "".join(f"{name}: {text}\r\n" for name, text in headers(INSTANCE).items())
    request = f"GET {where.path}{path} HTTP/1.1\r\nHost: bench\r\n{fields}\r\n".encode()
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            client.sendall(request)
            client.setblocking(False)
            clients.append(client)
        until, unanswered = time.monotonic() + seconds, set(clients)
        while (now := time.monotonic()) < until or (unanswered and now < until + 60):
            time.sleep(1)
            for client in clients:
                with contextlib.suppress(BlockingIOError):
                    received = client.recv(SLOW_BYTES)
                    if client in unanswered and received.startswith(b"HTTP/1.1 200 "):
                        unanswered.remove(client)
        if unanswered:
            raise SystemExit(f"{peer.name}: {len(unanswered)} slow clients got nothing")
        yield


def _measure_tokens(samples: Samples, peer: Peer, frame: str) -> None:
    """Use each of some thousand tokens once, after some others that fill pools."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "tokens.lua")
        many(peer, frame, FRAME, seconds=2, script=token_script(file, FRAME, requests=1))
        before = memory(peer.process)
        script = token_script(file, FRAME, requests=1)
        done = many(peer, frame, FRAME, seconds=6, script=script)
    grown = max(0.0, memory(peer.process) - before) * 1e6
    samples.add(TOKENS, "each", OURS, A_TOKEN, grown / done.answers)
