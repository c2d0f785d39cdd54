"""Workers as the supervisor knows them: the task of each, its state, and when it starts again."""

import enum
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sidecar.server.child import Channel, Child
from sidecar.server.configuration import Configuration
from sidecar.server.sockets import Sockets

_LONG_LIVED_SECONDS = 60
"""A worker that has lived as long is started again at once."""
_LONGEST_DELAY_SECONDS = 30

Reason = Literal["start", "reload", "restart"]


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What a worker is given.

    ``index``: its number among those of its configuration, from 0. ``reason``: why it is started.
    ``folder``: what all workers share. ``host_key``: what keys are made of for which the settings
    name no file.
    """

    configuration: Configuration
    index: int
    reason: Reason
    sockets: Sockets
    folder: Path
    host_key: bytes


Work = Callable[[WorkerTask, Channel], int]
"""Runs in a child: is a worker until its end. Returns the exit code."""


class WorkerState(enum.Enum):
    """The states of a worker."""

    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"
    """It was replaced: it accepts no more, and ends with its transfers."""
    ENDING = "ending"
    """It ends: its transfers have ``server.drain_seconds``."""


class Worker(Child):
    """A worker process."""

    def __init__(self, work: Work, task: WorkerTask, others: Iterable[Child]) -> None:
        super().__init__(lambda channel: work(task, channel), others)
        self.index = task.index
        self.state = WorkerState.STARTING
        self.problem: str | None = None
        """Why it could not start."""

    def end(self) -> None:
        """Let it end."""
        self.state = WorkerState.ENDING
        self.signal(signal.SIGTERM)


@dataclass(eq=False, slots=True)
class Generation:
    """The workers of one configuration, by their index."""

    configuration: Configuration
    workers: dict[int, Worker] = field(default_factory=dict)
    _deaths: dict[int, int] = field(default_factory=dict)
    _due: dict[int, float] = field(default_factory=dict)

    def is_serving(self) -> bool:
        """Return whether each of its workers serves."""
        states = [worker.state for worker in self.workers.values()]
        return states == [WorkerState.SERVING] * self.configuration.workers

    def schedule(self, ended: Worker) -> float:
        """Remove a worker that has ended. Return the seconds until it is due to start again."""
        del self.workers[ended.index]
        if time.monotonic() - ended.began > _LONG_LIVED_SECONDS:
            self._deaths.pop(ended.index, None)
        return self.postpone(ended.index)

    def postpone(self, index: int) -> float:
        """Return the seconds until the worker is due to start again: 0 at first, then 1, 2 … 30."""
        deaths = self._deaths.get(index, 0) + 1
        delay = 0 if deaths == 1 else min(_LONGEST_DELAY_SECONDS, 2 ** min(deaths - 2, 10))
        self._deaths[index], self._due[index] = deaths, time.monotonic() + delay
        return delay

    def due(self) -> list[int]:
        """Return the indices of the workers that are to be started again now."""
        now = time.monotonic()
        indices = [index for index, moment in self._due.items() if moment <= now]
        for index in indices:
            del self._due[index]
        return indices
