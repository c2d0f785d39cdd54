"""How slow a client may be before it loses its place to another."""

import socket
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.web.transfer_timeout import LEAST_BYTES_PER_SECOND, WINDOW_SECONDS, ClientRate

RATE = LEAST_BYTES_PER_SECOND


def looks_at(taken: Iterable[tuple[float, float]]) -> list[bool]:
    """Whether a client seems too slow that has so many bytes after so many seconds of waiting."""
    now = 0.0
    transport = SimpleNamespace(get_write_buffer_size=lambda: 0, get_extra_info=lambda _: None)
    writer = cast("Any", SimpleNamespace(output_size=0, transport=transport))
    rate, found = ClientRate(lambda: now), list[bool]()
    rate.wait_for(writer)
    for sent, now in taken:  # noqa: B007 - the clock reads it
        writer.output_size = int(sent)
        found.append(rate.is_too_slow())
    return found


@pytest.mark.parametrize(
    ("bytes_per_second", "seconds", "is_too_slow"),
    [
        (0, WINDOW_SECONDS, False),
        (0, WINDOW_SECONDS + 1, True),
        (RATE, 3_600, False),
        (RATE * 0.9, 100, False),
        (RATE * 0.9, 200, True),
        (RATE / 2, 20, False),
        (RATE / 2, 40, True),
    ],
)
def test_the_rate_is_that_of_a_window(
    bytes_per_second: float, seconds: int, is_too_slow: bool
) -> None:
    looks = looks_at((second * bytes_per_second, second) for second in range(1, seconds + 1))
    assert looks[-1] == is_too_slow


def test_what_was_quick_once_does_not_count_for_ever() -> None:
    """A client that took a gigabyte in a second may be slow for a window, no longer."""
    looks = looks_at((2**30, second) for second in range(1, int(WINDOW_SECONDS) + 3))
    assert looks[-3:] == [False, True, True]


def test_whoever_was_slow_and_is_quick_again_is_not_too_slow() -> None:
    assert looks_at([(0, 1_000), (RATE * 30, 1_001)]) == [True, False]


def test_the_time_of_the_archive_does_not_count() -> None:
    """Ten minutes between two pieces, for which the client is not waited for; what the buffer holds
    was not taken.
    """
    now, buffered = 0.0, 0
    writer = cast(
        "Any",
        SimpleNamespace(
            output_size=0,
            transport=SimpleNamespace(
                get_write_buffer_size=lambda: buffered, get_extra_info=lambda _: None
            ),
        ),
    )
    rate = ClientRate(lambda: now)
    for _ in range(100):
        rate.wait_for(writer)
        now += 0.1
        writer.output_size += 1
        rate.end()
        now += 600
        assert not rate.is_too_slow()
    rate.wait_for(writer)
    writer.output_size += 2**20
    buffered = 2**20
    now += 6
    assert rate.is_too_slow()
    buffered = 0
    now += 1
    assert not rate.is_too_slow()


def test_what_the_kernel_keeps_was_not_taken() -> None:
    """It takes megabytes at once, and then nothing for as long as a slow client needs for them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        sent = ours.send(bytes(2**20))
        transport = SimpleNamespace(get_write_buffer_size=lambda: 0, get_extra_info=lambda _: ours)
        now = 0.0
        rate = ClientRate(lambda: now)
        rate.wait_for(cast("Any", SimpleNamespace(output_size=sent, transport=transport)))
        now = WINDOW_SECONDS
        assert not rate.is_too_slow()
        while sent > 0:
            sent -= len(theirs.recv(2**20))
        now += 1  # What came has filled the bucket again.
        assert not rate.is_too_slow()
        now += WINDOW_SECONDS + 1
        assert rate.is_too_slow()
