"""The simulation of caches: as calculated where that can be, and as it must grow and fall."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.caches import (
    Access,
    Balancing,
    Lifetimes,
    Question,
    Session,
    accesses,
    by_question,
    hit_ratio,
    misses,
    moved,
)

SESSION = Session(
    seconds=900, searches=3, studies=2, frames=120, frames_per_second=20, connections=6
)
LIFETIMES = Lifetimes(token=60, list_=15, owner=300, owner_of_frame=4)
RATES = st.floats(0.01, 100)
TTLS = st.floats(0.1, 1_000)


def _by_chance(rate: float, ttl: float, caches: int, seconds: float) -> list[Access]:
    """One key, wanted by chance ``rate`` times a second, each time in a cache by chance."""
    choose, time, wanted = random.Random(1), 0.0, []
    while (time := time + choose.expovariate(rate)) < seconds:
        wanted.append(Access(time, choose.randrange(caches), Question.OWNER, "one", ttl))
    return wanted


@pytest.mark.parametrize("caches", [1, 2, 8])
@pytest.mark.parametrize("ttl", [1, 10, 60])
def test_simulated_as_calculated(ttl: float, caches: int) -> None:
    wanted = _by_chance(2, ttl, caches, 20_000)
    simulated = 1 - len(misses(wanted)) / len(wanted)
    assert simulated == pytest.approx(hit_ratio(2, ttl, caches), abs=0.02)


@given(RATES, TTLS, st.integers(1, 500))
def test_hits_fall_with_caches(rate: float, ttl: float, caches: int) -> None:
    assert 0 <= hit_ratio(rate, ttl, caches + 1) <= hit_ratio(rate, ttl, caches) <= 1


@given(RATES, TTLS, st.floats(1, 10), st.integers(1, 500))
def test_hits_rise_with_lifetime(rate: float, ttl: float, more: float, caches: int) -> None:
    assert hit_ratio(rate, ttl * more, caches) >= hit_ratio(rate, ttl, caches)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3), st.sampled_from("ab")), max_size=60),
    st.floats(0, 50),
)
def test_each_first_need_asks_and_none_twice_within_its_age(
    needs: list[tuple[float, int, str]], age: float
) -> None:
    wanted = [Access(time, worker, Question.LIST, key, age) for time, worker, key in needs]
    missed = misses(wanted)
    assert {each[1:4] for each in missed} == {each[1:4] for each in wanted}
    for which in {each[1:4] for each in missed}:
        times = [each.time for each in missed if each[1:4] == which]
        assert all(later - earlier > age for earlier, later in pairwise(times))


def _asked(balancing: Balancing, workers: int, **changes: float) -> dict[Question, int]:
    lifetimes = Lifetimes(**{**_fields(), **changes})
    return by_question(misses(accesses(30, SESSION, lifetimes, workers, balancing)))


def _fields() -> dict[str, float]:
    names = ("token", "list_", "owner", "owner_of_frame")
    return {name: getattr(LIFETIMES, name) for name in names}


@pytest.mark.parametrize("question", [Question.TOKEN, Question.OWNER, Question.INSTANCE])
def test_more_workers_ask_more(question: Question) -> None:
    asked = [_asked(Balancing.REQUEST, workers)[question] for workers in (1, 4, 16, 64)]
    assert asked == sorted(asked)
    assert asked[0] < asked[-1]


@pytest.mark.parametrize("question", [Question.TOKEN, Question.OWNER, Question.INSTANCE])
def test_a_session_at_one_worker_asks_least(question: Question) -> None:
    by_session, by_connection, by_request = (
        _asked(balancing, 16)[question]
        for balancing in (Balancing.SESSION, Balancing.CONNECTION, Balancing.REQUEST)
    )
    assert by_session < by_connection < by_request


def test_longer_lifetimes_ask_less() -> None:
    short = _asked(Balancing.CONNECTION, 8)
    long = _asked(Balancing.CONNECTION, 8, token=600, owner_of_frame=60)
    assert long[Question.TOKEN] < short[Question.TOKEN]
    assert long[Question.OWNER] < short[Question.OWNER]


def test_shared_tokens_are_asked_as_by_one_worker() -> None:
    wanted = accesses(30, SESSION, LIFETIMES, 16, Balancing.REQUEST)
    alone = [each._replace(worker=0) for each in wanted]
    shared = by_question(misses(wanted, is_token_shared=True))
    assert shared[Question.TOKEN] == by_question(misses(alone))[Question.TOKEN]
    assert shared[Question.OWNER] == by_question(misses(wanted))[Question.OWNER]


def test_who_takes_over_has_to_ask() -> None:
    before, after = (Access(time, 0, Question.TOKEN, "t", 60) for time in (1, 2))
    assert misses([before, after]) == [before]
    for workers, successor in ((2, 1), (1, 1)):
        all_ = moved([before, after], lost=range(1), at=1.5, workers=workers)
        assert misses(all_) == [before, after._replace(worker=successor)]


def test_the_window_leaves_the_rest_as_it_is() -> None:
    all_ = accesses(10, SESSION, LIFETIMES, 1, Balancing.SESSION)
    window = accesses(10, SESSION, LIFETIMES, 1, Balancing.SESSION, window=(300, 600))
    assert window == [each for each in all_ if 300 <= each.time < 600]
