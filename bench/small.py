"""Small answers: CPU a request, requests a second, and added latency; by connections and tokens."""

import statistics
import tempfile
from pathlib import Path

from bench.archive import Shape, archive
from bench.load import FRAME, INSTANCE, Connection, many, token_script
from bench.measurements import Samples
from bench.peers import DIRECT, NO_AUDIT, OPENIDC, OURS, Peer, site
from bench.progress import progress

SHAPE = Shape(instances=1, side=170)
"""Its one instance has 60 KB."""
CONNECTIONS = (1, 8, 32, 128)
REQUESTS_OF_A_TOKEN = (1, 10, 100)
PACE = 50
ANSWERS, RATE = "Small answers at 32 connections", "Frame of 5 KB, by connections"
TOKENS, LATENCY = "Frame of 5 KB, by requests of each token", "Frame of 5 KB at 50 requests/s"
CPU, SPEED = "CPU, µs a request", "requests/s"
P50, P99 = "p50, ms", "p99, ms"


def measure(rounds: int, samples: Samples) -> None:
    """Measure ``rounds`` times, one peer after the other in each round."""
    with archive([SHAPE]) as upstream, site(upstream.url) as peers:
        everybody = peers.proxies()
        with_audit_off = [*everybody, peers.ours(NO_AUDIT, audit=False)]
        instance = upstream.studies[0].instance
        frame = instance + "/frames/1"
        for peer in with_audit_off:  # For imports, caches, pools.
            many(peer, frame, FRAME, seconds=1)
        for number in range(rounds):
            progress("small answers", number, rounds)
            for peer in with_audit_off:
                _measure_answers(samples, peer, "frame of 5 KB", frame, FRAME)
                _measure_answers(samples, peer, "instance of 60 KB", instance, INSTANCE)
            for peer in everybody:
                _measure_latency(samples, peer, frame)
        for number in range(min(rounds, 2)):
            progress("connections and tokens", number, min(rounds, 2))
            for peer in everybody:
                for count in CONNECTIONS:
                    done = many(peer, frame, FRAME, seconds=1, connections=count)
                    rate = done.answers / done.seconds
                    samples.add(RATE, f"{count}", peer.name, SPEED, rate, x=count)
                if peer.name in (OPENIDC, OURS):
                    _measure_tokens(samples, peer, frame)


def _measure_answers(samples: Samples, peer: Peer, case: str, path: str, accept: str) -> None:
    done = many(peer, path, accept, seconds=1)
    samples.add(ANSWERS, case, peer.name, SPEED, done.answers / done.seconds)
    if peer.name != DIRECT:
        samples.add(ANSWERS, case, peer.name, CPU, done.cpu / done.answers * 1e6)


def _measure_latency(samples: Samples, peer: Peer, frame: str) -> None:
    times = Connection(peer).paced(frame, FRAME, rate=PACE, seconds=2)
    percentiles = statistics.quantiles(times, n=100)
    samples.add(LATENCY, "whole answer", peer.name, P50, percentiles[49] * 1e3)
    samples.add(LATENCY, "whole answer", peer.name, P99, percentiles[98] * 1e3)


def _measure_tokens(samples: Samples, peer: Peer, frame: str) -> None:
    for count in REQUESTS_OF_A_TOKEN:
        with tempfile.TemporaryDirectory() as scratch:
            script = token_script(Path(scratch, "tokens.lua"), FRAME, requests=count)
            done = many(peer, frame, FRAME, seconds=2, script=script)
        cost = done.cpu / done.answers * 1e6
        samples.add(TOKENS, f"{count}", peer.name, CPU, cost, x=count)
