"""Process 1 of a container reaps the processes whose parents have ended."""

import ctypes
import os
import signal

import psutil

from sidecar.server.child import Channel, Child
from sidecar.server.children import Children, Received
from tests.forked import forked_process
from tests.waiting import WAIT_SECONDS

PR_SET_CHILD_SUBREAPER = 36


def _leave_an_orphan(channel: Channel) -> int:
    """Start a process that lives until it is killed, and end."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    channel.send(orphan=pid)
    return 0


def _reap() -> None:
    """End with 0 when an orphan is gone, and no zombie."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    children = Children()
    with children.handling_signals():
        child = Child(_leave_an_orphan)
        children.add(child)
        orphan, *_ = _orphans(children)
        os.kill(orphan, signal.SIGKILL)
        while psutil.pid_exists(orphan):  # A zombie exists.
            list(children.wait(WAIT_SECONDS))
    os._exit(0)


def _orphans(children: Children) -> list[int]:
    found: list[int] = []
    while children:  # Its parent has not ended.
        events = children.wait(WAIT_SECONDS)
        found += [event.message["orphan"] for event in events if isinstance(event, Received)]
    return found


def test_orphans_are_reaped() -> None:
    """A zombie would keep its number, and there is no other process 1 in a container."""
    process = forked_process(_reap, ())
    process.join(WAIT_SECONDS)
    assert process.exitcode == 0
