"""Simulate what caches of several workers keep from the EHR and the archive.

A session is an app that is open for one patient with one token: it searches, opens studies, and
loads their frames in a burst. Sessions of different patients share nothing, so what one of them
asks for, times their number, is what all of them ask for.
"""

import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from operator import attrgetter
from typing import NamedTuple


class Balancing(StrEnum):
    """By what a load balancer chooses the worker."""

    SESSION = "session"
    CONNECTION = "connection"
    REQUEST = "request"


class Question(StrEnum):
    """What a worker asks for when it does not remember it."""

    TOKEN = "introspection"
    LIST = "list of studies"
    OWNER = "patient of a study"
    INSTANCE = "patient in an instance"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds for which answers are remembered. ``owner_of_frame``: for what names no patient."""

    token: float
    list_: float
    owner: float
    owner_of_frame: float


@dataclass(frozen=True, slots=True)
class Session:
    """What an app does: searches, and studies with so many frames, by so many connections."""

    seconds: float
    searches: int
    studies: int
    frames: int
    frames_per_second: float
    connections: int


class Access(NamedTuple):
    """A need for something at a time: it serves when it was asked for at most ``age`` ago."""

    time: float
    worker: int
    question: Question
    key: Hashable
    age: float


def hit_ratio(rate: float, ttl: float, caches: int) -> float:
    """Return the share of hits of one key that is wanted ``rate`` times a second, by chance.

    Each of the caches gets an even share of the requests, at random. A miss is followed by hits for
    ``ttl`` seconds: ``rate / caches * ttl`` of them.
    """
    hits = rate / caches * ttl
    return hits / (1 + hits)


def misses(all_: Iterable[Access], *, is_token_shared: bool = False) -> list[Access]:
    """Return those accesses that ask, in the order of time. A shared token is asked for once."""
    asked: dict[tuple[int, Question, Hashable], float] = {}
    missed = []
    for access in sorted(all_, key=attrgetter("time")):
        time, worker, question, key, age = access
        if is_token_shared and question is Question.TOKEN:
            worker = -1
        if time - asked.get((worker, question, key), -math.inf) > age:
            asked[worker, question, key] = time
            missed.append(access)
    return missed


def accesses(
    sessions: int,
    session: Session,
    lifetimes: Lifetimes,
    workers: int,
    balancing: Balancing,
    *,
    window: tuple[float, float] = (-math.inf, math.inf),
    seed: int = 1,
) -> list[Access]:
    """Return the accesses, within the window, of so many sessions.

    They begin evenly within the time that one takes, so that at its end as many are open as begin.
    """
    choose = random.Random(seed)
    return [
        access
        for number in range(sessions)
        for access in _session(number, session, lifetimes, workers, balancing, choose, window)
        if window[0] <= access.time < window[1]
    ]


def moved(all_: Iterable[Access], *, lost: range, at: float, workers: int) -> list[Access]:
    """Return the accesses as they are when the workers in ``lost`` end at a time.

    The others take over what would have come to them. If all are lost, new ones begin with empty
    caches.
    """
    left = [worker for worker in range(workers) if worker not in lost]

    def successor(worker: int) -> int:
        return left[worker % len(left)] if left else worker + workers

    return [
        each._replace(worker=successor(each.worker))
        if each.time >= at and each.worker in lost
        else each
        for each in all_
    ]


def by_question(missed: Iterable[Access]) -> Counter[Question]:
    """Return how often each question is asked."""
    return Counter(access.question for access in missed)


def _session(
    number: int,
    session: Session,
    lifetimes: Lifetimes,
    workers: int,
    balancing: Balancing,
    choose: random.Random,
    window: tuple[float, float],
) -> Iterator[Access]:
    begin = choose.uniform(0, session.seconds)
    connections = [choose.randrange(workers) for _ in range(session.connections)]
    turn = count()

    def worker() -> int:
        if balancing is Balancing.REQUEST:
            return choose.randrange(workers)
        if balancing is Balancing.SESSION:
            return connections[0]
        return connections[next(turn) % len(connections)]

    def request(time: float, question: Question, key: Hashable, age: float) -> Iterator[Access]:
        chosen = worker()
        yield Access(time, chosen, Question.TOKEN, number, lifetimes.token)
        yield Access(time, chosen, question, key, age)
        if question is Question.OWNER and age == lifetimes.owner_of_frame:
            yield Access(time, chosen, Question.INSTANCE, key, lifetimes.owner)

    for _ in range(session.searches):
        time = begin + choose.uniform(0, session.seconds)
        yield from request(time, Question.LIST, number, lifetimes.list_)
    for study in range(session.studies):
        time = begin + choose.uniform(0, session.seconds)
        yield from request(time, Question.OWNER, (number, study), lifetimes.owner)
        if time > window[1] or time + session.frames / session.frames_per_second < window[0]:
            continue
        for frame in range(session.frames):
            at = time + (frame + 1) / session.frames_per_second
            yield from request(at, Question.OWNER, (number, study), lifetimes.owner_of_frame)
