"""The circuit breaker: when it opens, and how it closes again."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.circuit_breaker import Breaker
from tests.common.peer import Clock


def opened(clock: Clock, *, failures: int = 3) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(failures=failures, open_seconds=2, clock=clock)
    for _ in range(failures):
        assert not breaker.refuses()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    """Not one earlier."""
    breaker = Breaker(failures=3, open_seconds=2, clock=Clock())
    for _ in range(2):
        breaker.failed()
        assert not breaker.refuses()
    breaker.failed()
    assert breaker.refuses()


def test_a_success_between_begins_the_count_again() -> None:
    """A peer that answers now and then is not left alone."""
    breaker = Breaker(failures=2, open_seconds=2, clock=Clock())
    for _ in range(10):
        breaker.failed()
        breaker.succeeded()
    assert not breaker.refuses()


def test_one_call_probes_when_the_time_is_over() -> None:
    """Half open: the others are refused until the probe is back or another time is over."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.99
    assert breaker.refuses()
    clock.now += 0.01
    assert [breaker.refuses() for _ in range(5)] == [False, True, True, True, True]
    clock.now += 2  # The probe never came back: the next one may try.
    assert [breaker.refuses() for _ in range(2)] == [False, True]


def test_a_probe_that_succeeds_closes_it() -> None:
    """And the count begins again."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 2
    assert not breaker.refuses()
    breaker.succeeded()
    assert not any(breaker.refuses() for _ in range(5))
    breaker.failed()
    breaker.failed()
    assert not breaker.refuses()


def test_a_probe_that_fails_opens_it_again() -> None:
    """For the whole time, at once."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 3
    assert not breaker.refuses()
    breaker.failed()
    clock.now += 1.99
    assert breaker.refuses()
    clock.now += 0.01
    assert not breaker.refuses()


@given(st.lists(st.sampled_from(["fail", "succeed", "wait"]), max_size=40))
def test_it_never_stays_open(events: list[str]) -> None:
    """Whatever happened: after ``open_seconds`` somebody is let through."""
    clock = Clock()
    breaker = Breaker(failures=2, open_seconds=2, clock=clock)
    for event in events:
        if event == "wait":
            clock.now += 0.7
        elif not breaker.refuses():
            (breaker.failed if event == "fail" else breaker.succeeded)()
    clock.now += 2
    assert not breaker.refuses()
