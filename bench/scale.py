"""Calculate what a region needs: cores, memory, questions to EHR and archive, and after a failure.

python -m bench.scale [--patients N] [--peak-requests N] …

The costs of a request, of a gigabyte, and of memory are those stored in bench/results. What caches
keep from the EHR and the archive is simulated (``bench/caches.py``).
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, get_args, get_type_hints

from bench import memory, search, small, streams
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
from bench.measurements import figure, load, table
from bench.peers import BARE, OPENIDC, OURS, TUNED
from sidecar.settings.limits import LimitSettings
from sidecar.settings.tokens import TokenCacheSettings

QUERIES = {Question.LIST: 2, Question.OWNER: 1}
"""QIDO-RS queries to the archive for each question."""
QUERY_CONNECTIONS, WAIT_SECONDS = 32, 20
"""Of a worker; beyond these its queries wait, and beyond so many seconds they get 503."""
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
    frame_owner_seconds: Annotated[float, "the same for frames, whose lifetime is fixed"] = 4.0

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


def measured_costs(listed_studies: int = Region().listed_studies) -> Costs:
    """Return the costs that are stored."""
    cpu = _stored("small", small.ANSWERS, "frame of 5 KB", small.CPU)
    one, many = (_stored("small", small.TOKENS, each, small.CPU) for each in ("1", "100"))
    return Costs(
        frame=cpu / 1e6,
        gigabyte=_stored("streams", streams.STUDIES, "400 × 525 KB", streams.COST),
        search=_stored("search", search.WARM, f"{listed_studies}", search.CPU) / 1e3,
        cold_search=_stored("search", search.COLD, f"{listed_studies}", search.CPU) / 1e3,
        introspection=max(0.0, one - many) / 1e6,
        idle=_stored("start", memory.RESTING, memory.ALL, memory.MEGABYTES),
        token=_stored("memory", memory.TOKENS, "each", memory.A_TOKEN) / 1e6,
        listed_study=_stored("search", search.REMEMBERED, "each", search.A_STUDY) / 1e6,
        stream=_stored("memory", memory.WITH_SLOW, "100", memory.A_CLIENT) * 1_024 / 1e6,
    )


def _stored(section: str, group: str, case: str, metric: str, peer: str = OURS) -> float:
    for each in load(section)[1]:
        if (each.group, each.case, each.metric, each.peer) == (group, case, metric, peer):
            return each.median
    raise SystemExit(f"nothing is stored of {section}, {group}, {case}, {peer}: make bench")


def report(region: Region, costs: Costs) -> str:
    """Return Markdown: the fleet, what is asked, failures, and what a million requests cost."""
    return "\n\n".join(
        [
            _report_fleet(region, costs),
            _report_questions(region, costs),
            _report_failures(region, costs),
            _report_costs(region),
        ]
    )


def _report_fleet(region: Region, costs: Costs) -> str:
    needed = fleet(region, costs)
    sessions = region.sessions_per_second
    rows = [[f"cores for {what}", figure(cores)] for what, cores in needed.cores.items()]
    cores = sum(needed.cores.values()) / region.utilisation
    days = region.patients / sessions / 86_400
    rows += [
        [f"cores at {region.utilisation:.0%} use", figure(cores)],
        [f"replicas of {region.workers} workers, one of them to spare", f"{needed.replicas}"],
        ["memory of a replica, MB", figure(needed.megabytes)],
        ["memory of all, GB", figure(needed.megabytes * needed.replicas / 1e3)],
        ["sessions that begin in a second", figure(sessions)],
        ["sessions at once", figure(sessions * region.session_seconds)],
        ["days between two sessions of a patient, were it always peak", figure(days)],
    ]
    title = f"**{region.patients:,} patients, {region.peak_requests:,.0f} requests/s at peak**"
    return f"{title}\n\n" + table(["", ""], rows)


def _report_questions(region: Region, costs: Costs) -> str:
    workers = fleet(region, costs).replicas * region.workers
    rows = []
    for balancing in Balancing:
        for shared in (False, True):
            asked = questions(replace(region, balancing=balancing, shared_tokens=shared), workers)
            rows.append(
                [
                    f"by {balancing}",
                    "shared" if shared else "each worker's",
                    *map(
                        figure,
                        (
                            asked.introspections,
                            asked.list_queries,
                            asked.owner_queries,
                            asked.instances,
                        ),
                    ),
                    f"{asked.token_hits:.1%}",
                    f"{asked.owner_hits:.1%}",
                ]
            )
    head = ["balanced", "token cache", "introspections/s", "QIDO/s for lists", "QIDO/s for owners"]
    head += ["instances looked into/s", "token hits", "owner hits"]
    return f"**What {workers} workers ask of EHR and archive**\n\n" + table(head, rows)


def _report_failures(region: Region, costs: Costs) -> str:
    replicas = fleet(region, costs).replicas
    steady = questions(region, replicas * region.workers).queries
    rows = []
    for capacity in (region.archive_queries, steady * 1.1):
        for what, lost in (("one replica is lost", 1), ("all begin with empty caches", replicas)):
            failed = failure(replace(region, archive_queries=capacity), replicas, lost=lost)
            rows.append(
                [
                    f"{what}, archive of {figure(capacity)} queries/s",
                    figure(failed.queries),
                    figure(failed.introspections),
                    figure(failed.instances),
                    figure(failed.first_second),
                    figure(failed.at_once),
                    figure(failed.seconds),
                    f"{failed.refused:.0%}",
                ]
            )
    head = ["", "QIDO more in 10 s", "introspections more", "instances looked into more"]
    head += ["QIDO in the first second", "of these at the archive at once, at most"]
    head += ["seconds until all are answered", "refused (503)"]
    return "**After a failure**\n\n" + table(head, rows)


def _report_costs(region: Region) -> str:
    rows = []
    for peer in (TUNED, OPENIDC, BARE, OURS):
        try:
            frame = _stored("small", small.ANSWERS, "frame of 5 KB", small.CPU, peer)
            gigabyte = _stored("streams", streams.STUDIES, "400 × 525 KB", streams.COST, peer)
        except SystemExit:
            continue  # It was not installed.
        large = frame + region.frame_kilobytes / 1e6 * gigabyte * 1e6
        rows.append([peer, *(figure(each / 3_600) for each in (frame, large, gigabyte * 1e3))])
    head = ["CPU hours", "a million frames of 5 KB", f"of {region.frame_kilobytes:g} KB"]
    return table([*head, "a terabyte of studies"], rows)


def main() -> int:
    """Print the report for the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    hints = get_type_hints(Region, include_extras=True)
    for each in fields(Region):
        kind, help_ = get_args(hints[each.name])
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=_boolean if kind is bool else kind,
            default=each.default,
            help=f"{help_} (default: %(default)s)",
        )
    region = Region(**vars(parser.parse_args()))
    print(report(region, measured_costs(region.listed_studies)))
    return 0


def _boolean(text: str) -> bool:
    return text.lower() in ("true", "yes", "1")


if __name__ == "__main__":
    sys.exit(main())
