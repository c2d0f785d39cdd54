"""Measure what an audit event costs the request that writes it.

``make bench ARGS=audit`` writes events into a spool, as a worker does before it answers, while
another process delivers them to a repository that takes all. It prints the processor's time of an
event in the spool alone, and with the making of the event.
"""

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

from sidecar.access.facts import Token
from sidecar.audit.backlog import Backlog
from sidecar.audit.event import AuditSource
from sidecar.audit.record import AccessRecord
from sidecar.audit.spool import Spool
from sidecar.audit.trail import AuditTrail

EVENTS, ROUNDS = 1_000, 9


def main() -> int:
    """Measure and print."""
    for sync in (False, True):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
            ends = multiprocessing.Event()
            delivering = multiprocessing.Process(target=_deliver, args=(Path(scratch), ends))
            delivering.start()
            _compare(Spool(Path(scratch), max_bytes=2**30, sync=sync), sync=sync)
            ends.set()
            delivering.join()
    return 0


def _compare(spool: Spool, *, sync: bool) -> None:
    trail = AuditTrail(
        spool,
        AuditSource("bench", "https://ehr.example.org/fhir", "https://imaging.example.org/fhir"),
        b"key",
    )
    token = Token((), 9e9, patient="p1")
    record = AccessRecord("r1", token=token, token_hash="h", patient="p1", route="wado-rs")
    print(f"spool.sync: {sync}".lower())
    _measure("into the spool", lambda: spool.write(b"x" * 1_999 + b"\n"))
    _measure("made and into the spool", lambda: trail.answered(record, 200))
    spool.close()


def _deliver(folder: Path, ends: Event) -> None:
    backlog = Backlog(folder)
    backlog.lock()
    while not ends.is_set():
        backlog.done(backlog.next(100))
        backlog.save()
        time.sleep(0.005)


def _measure(what: str, write: Callable[[], None]) -> None:
    costs = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(EVENTS):
            write()
        costs.append((time.process_time() - begun) / EVENTS)
    print(f"  {what:24} {statistics.median(costs) * 1e6:6.1f} µs of CPU")


if __name__ == "__main__":
    sys.exit(main())
