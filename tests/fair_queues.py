"""How many hold a place of a ``FairQueue``, and how many wait for one."""

from collections.abc import Hashable

from sidecar.common.fair_queue import FairQueue


def held_count(queue: FairQueue, *key: Hashable) -> int:
    """Return how many places are held below this part of a key."""
    return queue._running[key]


def waiting_count(queue: FairQueue, *key: Hashable) -> int:
    """Return how many wait below this part of a key."""
    return queue._waiting[key]


def is_empty(queue: FairQueue) -> bool:
    """Return whether nothing is left behind."""
    return not any((queue._running, queue._waiting, queue._turns, queue._futures))
