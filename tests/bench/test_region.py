"""The calculation for a region: what grows with what."""

import math
from dataclasses import replace

import pytest

from bench.caches import Balancing
from bench.region import Costs, Failure, Region, failure, fleet, questions

COSTS = Costs(
    frame=300e-6,
    gigabyte=0.5,
    search=1e-3,
    cold_search=20e-3,
    introspection=500e-6,
    idle=90,
    token=1e-3,
    listed_study=6e-3,
    stream=0.25,
)
REGION = Region(frames=20, frames_per_second=2)


def test_sessions_make_the_requests() -> None:
    region = Region(searches=3, studies=2, frames=200, downloads=0, peak_requests=4_050)
    assert region.sessions_per_second == pytest.approx(4_050 / (3 + 2 * 201))


def test_cores_are_requests_times_their_costs() -> None:
    region = replace(REGION, searches=0, downloads=0, frame_kilobytes=100)
    needed = fleet(region, COSTS)
    assert needed.cores["frames"] == pytest.approx(10_000 * (300e-6 + 1e-4 * 0.5))
    assert needed.cores["searches"] == needed.cores["whole studies"] == 0


def test_replicas_carry_the_peak_without_one_of_them() -> None:
    needed = fleet(REGION, COSTS)
    carried = (needed.replicas - 1) * REGION.workers * REGION.utilisation
    assert carried >= sum(needed.cores.values()) > carried - REGION.workers * REGION.utilisation


@pytest.mark.parametrize(
    "more",
    [
        replace(REGION, peak_requests=20_000),
        replace(REGION, frame_kilobytes=1_000),
        replace(REGION, utilisation=0.3),
        replace(REGION, downloads=0.5),
    ],
)
def test_more_work_needs_more_replicas(more: Region) -> None:
    assert fleet(more, COSTS).replicas > fleet(REGION, COSTS).replicas


def test_questions_grow_with_sessions_in_proportion() -> None:
    one, two = (questions(replace(REGION, peak_requests=rate), 8) for rate in (5_000, 10_000))
    assert two.queries == pytest.approx(2 * one.queries)
    assert two.introspections == pytest.approx(2 * one.introspections)
    assert two.token_hits == one.token_hits


def test_more_workers_ask_more() -> None:
    region = replace(REGION, balancing=Balancing.REQUEST)
    few, many = questions(region, 2), questions(region, 32)
    assert many.introspections > few.introspections
    assert many.queries > few.queries
    assert many.owner_hits < few.owner_hits


def test_longer_lifetimes_ask_less() -> None:
    region = replace(REGION, token_seconds=600, frame_owner_seconds=60)
    assert questions(region, 8).token_hits > questions(REGION, 8).token_hits
    assert questions(region, 8).owner_hits > questions(REGION, 8).owner_hits


def _cold_start(archive_queries: float) -> Failure:
    return failure(replace(REGION, archive_queries=archive_queries), 6, lost=6)


def test_a_cold_start_asks_more_than_one_lost_replica() -> None:
    one, all_ = failure(REGION, 6, lost=1), failure(REGION, 6, lost=6)
    assert all_.introspections > one.introspections
    assert all_.queries >= one.queries
    assert all_.at_once == 6 * REGION.workers * 32


def test_a_slow_archive_answers_later_and_refuses_more() -> None:
    steady = questions(REGION, 12).queries
    fast, slow = _cold_start(steady + 10_000), _cold_start(steady + 10)
    assert fast.seconds < slow.seconds < math.inf
    assert fast.refused == 0 < slow.refused < 1
    overloaded = _cold_start(steady / 2)
    assert (overloaded.seconds, overloaded.refused) == (math.inf, 1)
