"""A child process: a fork that runs one function, with a channel of JSON lines to its parent."""

import contextlib
import json
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

log = logging.getLogger(__name__)

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""Signals that the supervisor handles. A child begins without its handlers."""
_READ_BYTES = 2**16
_SEND_SECONDS = 5
"""Seconds that a message waits for room in the buffer of the other end (some 200 kB)."""

Message = Mapping[str, Any]


class Channel:
    """One end of a connection between parent and child, on which JSON lines go both ways."""

    def __init__(self, end: socket.socket) -> None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))
        self._socket = end
        self._unread = b""
        self._open = True

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    @property
    def is_open(self) -> bool:
        """Return whether the other end was there, and read, when it was last used."""
        return self._open

    def send(self, **message: Any) -> None:
        """Send a message. When the other end does not read, nothing more is sent."""
        try:
            if self._open:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._open = False

    def receive(self) -> tuple[list[Message], bool]:
        """Return the messages that have arrived, and whether the other end is closed."""
        closed = False
        with contextlib.suppress(BlockingIOError):
            while not closed:
                try:
                    data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                except ConnectionResetError:
                    data = b""
                self._unread += data
                closed = not data
        self._open = self._open and not closed
        *lines, self._unread = self._unread.split(b"\n")
        return [json.loads(line) for line in lines], closed

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


class Child:
    """A child process that runs ``main`` with its end of the channel.

    ``main`` returns the exit code. In the child the ends that the parent has of ``others`` are
    closed, so that each of them notices the end of the parent.
    """

    def __init__(self, main: Callable[[Channel], int], others: Iterable["Child"] = ()) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self.began = self.heard = time.monotonic()
        """Seconds of the monotonic clock: its start, and its last message."""
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that arrives in between is for the new handlers.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                for channel in (self.channel, *(other.channel for other in others)):
                    channel.close()
                _run(main, Channel(theirs), blocked)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _run(main: Callable[[Channel], int], channel: Channel, mask: Iterable[int]) -> None:
    """Run ``main`` in the child, and end the process with its code."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        # A terminal or an operator may send it to the whole group. The supervisor reloads.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = main(channel)
    except Exception:
        log.exception("a process ended with an error")
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
