"""What a region needs by the measured costs: cores, memory, questions to EHR and archive."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

from bench.caches import (
    Access,
    Balancing,
    Lifetimes,
    Question,
    Session,
    accesses,
    by_question,
    misses,
    moved,
)
from sidecar.authorization.limits import WAIT_SECONDS
from sidecar.bootstrap.pacs import QUERY_CONNECTIONS
from sidecar.pacs.ownership import UNNAMED_SECONDS
from sidecar.settings.limits import LimitSettings
from sidecar.settings.tokens import TokenCacheSettings

QUERIES = {Question.LIST: 2, Question.OWNER: 1}
"""QIDO-RS queries to the archive for each question."""
SAMPLE, FAILURE_SAMPLE = 100, 1_000
"""Sessions that are simulated, in place of all; and of those that are open when something fails."""
BURST_SECONDS = 10.0
_LIMITS = LimitSettings()
_TOKEN_SECONDS = TokenCacheSettings().ttl_seconds


@dataclass(frozen=True, slots=True)
class Region:
    """The inputs: what people do, how the sidecar is run, and what the archive can take."""

    patients: Annotated[int, "patients of the region"] = 10_000_000
    peak_requests: Annotated[float, "requests a second at peak"] = 10_000.0
    session_seconds: Annotated[float, "seconds for which an app is open for a patient"] = 900.0
    searches: Annotated[int, "FHIR searches of a session"] = 3
    studies: Annotated[int, "studies that a session opens, one after the other"] = 2
    frames: Annotated[int, "frames that it loads of each of them"] = 200
    frames_per_second: Annotated[float, "of these in a second"] = 20.0
    frame_kilobytes: Annotated[float, "kilobytes of a frame"] = 100.0
    downloads: Annotated[float, "downloads of a whole study in a session"] = 0.02
    study_megabytes: Annotated[float, "megabytes of such a study"] = 200.0
    listed_studies: Annotated[int, "studies of a patient: 1, 4, 50, 500 or 5000"] = 50
    connections: Annotated[int, "connections of an app: browsers have six with HTTP/1.1"] = 6
    balancing: Annotated[Balancing, "session, connection or request"] = Balancing.CONNECTION
    shared_tokens: Annotated[bool, "whether workers share introspection answers"] = False
    workers: Annotated[int, "workers of a replica"] = 2
    utilisation: Annotated[float, "share of a core that is used at peak"] = 0.6
    client_megabits: Annotated[float, "megabits a second that a client takes a study with"] = 50.0
    archive_queries: Annotated[float, "QIDO-RS queries a second that it answers"] = 2_000.0
    token_seconds: Annotated[float, "tokens.cache.ttl_seconds"] = _TOKEN_SECONDS
    list_seconds: Annotated[float, "search_cache_seconds"] = _LIMITS.search_cache_seconds
    owner_seconds: Annotated[float, "ownership_cache_seconds"] = _LIMITS.ownership_cache_seconds
    frame_owner_seconds: Annotated[float, "the same for frames, a constant"] = UNNAMED_SECONDS

    @property
    def requests_of_a_session(self) -> float:
        """Return the requests of a session on average."""
        return self.searches + self.studies * (1 + self.frames) + self.downloads

    @property
    def sessions_per_second(self) -> float:
        """Return the sessions that begin in a second at peak."""
        return self.peak_requests / self.requests_of_a_session


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured: CPU seconds a request or a gigabyte, and megabytes of memory."""

    frame: float
    gigabyte: float
    search: float
    cold_search: float
    introspection: float
    idle: float
    token: float
    listed_study: float
    stream: float


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked of EHR and archive in a second, and the hit ratio of tokens and owners."""

    introspections: float
    list_queries: float
    owner_queries: float
    instances: float
    token_hits: float
    owner_hits: float

    @property
    def queries(self) -> float:
        """Return QIDO-RS queries a second."""
        return self.list_queries + self.owner_queries


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas, with the CPU that they use, and what each needs."""

    replicas: int
    cores: dict[str, float]
    megabytes: float


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failure adds to the questions of the ten seconds after it, and how long that lasts.

    ``at_once``: queries of all workers at the archive at most, where otherwise those of the
    ``first_second`` would all come. ``seconds``: until the archive has answered what was added
    (infinite: never). ``refused``: the share of it that waits too long.
    """

    queries: float
    introspections: float
    instances: float
    first_second: float
    at_once: int
    seconds: float
    refused: float


@cache
def questions(region: Region, workers: int) -> Questions:
    """Return what so many workers ask at peak, by simulation."""
    all_ = _sample(replace(region, shared_tokens=False, archive_queries=0), workers, SAMPLE)
    wanted = by_question(all_)
    missed = by_question(misses(all_, is_token_shared=region.shared_tokens))
    a_second = region.sessions_per_second / SAMPLE
    return Questions(
        introspections=missed[Question.TOKEN] * a_second,
        list_queries=missed[Question.LIST] * QUERIES[Question.LIST] * a_second,
        owner_queries=missed[Question.OWNER] * QUERIES[Question.OWNER] * a_second,
        instances=missed[Question.INSTANCE] * a_second,
        token_hits=1 - missed[Question.TOKEN] / wanted[Question.TOKEN],
        owner_hits=1 - missed[Question.OWNER] / wanted[Question.OWNER],
    )


def fleet(region: Region, costs: Costs) -> Fleet:
    """Return the replicas that the peak needs, of which one more may be lost."""
    a_second = region.sessions_per_second
    frames = a_second * region.studies * (1 + region.frames)
    downloaded = a_second * region.downloads * region.study_megabytes / 1e3
    cores = {
        "searches": a_second * region.searches * costs.search,
        "frames": frames * (costs.frame + region.frame_kilobytes / 1e6 * costs.gigabyte),
        "whole studies": downloaded * costs.gigabyte,
    }
    replicas = _replicas(region, sum(cores.values()))
    # What the caches miss costs CPU, too, and the more replicas there are, the more they miss.
    asked = questions(region, replicas * region.workers)
    searched = asked.list_queries / QUERIES[Question.LIST]
    cores["introspections"] = asked.introspections * costs.introspection
    cores["lists from the archive"] = searched * max(0, costs.cold_search - costs.search)
    replicas = _replicas(region, sum(cores.values()))
    sessions = a_second * region.session_seconds
    streams_ = a_second * region.downloads * region.study_megabytes * 8 / region.client_megabits
    held = (
        sessions * min(replicas * region.workers, region.connections) * costs.token
        + searched * max(region.list_seconds, 1) * region.listed_studies * costs.listed_study
        + streams_ * costs.stream
    )
    return Fleet(replicas, cores, costs.idle * region.workers + held / replicas)


def failure(region: Region, replicas: int, *, lost: int) -> Failure:
    """Return what follows when so many replicas end at once.

    The others take over their sessions. Where all end, new ones begin with empty caches.
    """
    workers = replicas * region.workers
    simulated = replace(region, archive_queries=0)  # What is asked does not hang on it.
    added, first = _added(simulated, replicas, lost)
    # The sample begins within one session's time, as do all that are open at this moment.
    of_one = region.sessions_per_second * region.session_seconds / FAILURE_SAMPLE
    queries = max(0.0, _queries(added) * of_one)
    spare = region.archive_queries - questions(region, workers).queries
    seconds = queries / spare if spare > 0 else math.inf
    return Failure(
        queries,
        max(0.0, added[Question.TOKEN] * of_one),
        max(0.0, added[Question.INSTANCE] * of_one),
        _queries(first) * of_one,
        workers * QUERY_CONNECTIONS,
        seconds,
        max(0.0, 1 - WAIT_SECONDS / seconds) if seconds else 0.0,
    )


@cache
def _added(region: Region, replicas: int, lost: int) -> tuple[Counter[Question], Counter[Question]]:
    """Return what is asked more in the seconds after a failure, and all of the first second."""
    workers, at = replicas * region.workers, region.session_seconds
    window = (at - region.owner_seconds, at + BURST_SECONDS)
    usual = _sample(replace(region, shared_tokens=False), workers, FAILURE_SAMPLE, window)
    moved_ = moved(usual, lost=range(lost * region.workers), at=at, workers=workers)
    asked, asked_usually = (
        [each for each in misses(all_, is_token_shared=region.shared_tokens) if each.time >= at]
        for all_ in (moved_, usual)
    )
    added = by_question(asked)
    added.subtract(by_question(asked_usually))
    return added, by_question(access for access in asked if access.time < at + 1)


def _queries(asked: Mapping[Question, int]) -> int:
    return sum(asked[question] * queries for question, queries in QUERIES.items())


@cache
def _sample(
    region: Region, workers: int, sessions: int, window: tuple[float, float] = (-math.inf, math.inf)
) -> list[Access]:
    session = Session(
        region.session_seconds,
        region.searches,
        region.studies,
        region.frames,
        region.frames_per_second,
        region.connections,
    )
    lifetimes = Lifetimes(
        region.token_seconds, region.list_seconds, region.owner_seconds, region.frame_owner_seconds
    )
    return accesses(sessions, session, lifetimes, workers, region.balancing, window=window)


def _replicas(region: Region, cores: float) -> int:
    """Return the replicas for so many cores at peak, and one that may be lost."""
    return math.ceil(cores / region.utilisation / region.workers) + 1
