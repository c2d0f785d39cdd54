"""The children of this process, and what happens to them: messages, ends, and signals to us."""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sidecar.server.child import HANDLED, Child, Message


@dataclass(frozen=True, slots=True)
class Received:
    """A child has sent a message."""

    child: Child
    message: Message


@dataclass(frozen=True, slots=True)
class Ended:
    """A child has ended, with an exit code or minus the number of a signal."""

    child: Child
    code: int


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal has arrived."""

    number: int


Event = Received | Ended | Signalled


class Children:
    """Wait for events of child processes and for signals."""

    def __init__(self) -> None:
        self._by_pid: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_pid.values()))

    def __bool__(self) -> bool:
        return bool(self._by_pid)

    @contextlib.contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Turn the signals of ``HANDLED`` into events."""
        reader, writer = socket.socketpair()
        with reader, writer, self._selector:
            for end in (reader, writer):
                end.setblocking(False)
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            before = {
                number: signal.signal(number, lambda number, _: self._signals.append(number))
                for number in HANDLED
            }
            self._selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(4_096))
            try:
                yield
            finally:
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def add(self, child: Child) -> None:
        """Watch a child that was started."""
        self._by_pid[child.pid] = child
        self._selector.register(child.channel, selectors.EVENT_READ, child)

    def wait(self, seconds: float) -> Iterator[Event]:
        """Wait at most ``seconds`` for something to happen. Yield it in the order of its cause."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, Child):
                yield from self._received(key.data)
            else:
                key.data()
        # A signal to the whole group is there before the children that it ends, and comes first.
        ended = list(self._ended())
        signals, self._signals = self._signals, []
        yield from map(Signalled, dict.fromkeys(signals))
        yield from ended

    def _received(self, child: Child) -> Iterator[Event]:
        messages, is_closed = child.channel.receive()
        if is_closed:
            self._selector.unregister(child.channel)
        if messages:
            child.heard = time.monotonic()
        for message in messages:
            yield Received(child, message)

    def _ended(self) -> Iterator[Event]:
        """Reap children; as process 1 also those whose parents have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if (child := self._by_pid.pop(pid, None)) is None:
                continue
            if child.channel in self._selector.get_map():
                yield from self._received(child)  # What it sent before its end.
            if child.channel in self._selector.get_map():
                self._selector.unregister(child.channel)
            child.channel.close()
            yield Ended(child, os.waitstatus_to_exitcode(status))
