"""Waits end with the thing itself; and no test sleeps, or limits time, but where time is its
subject.
"""

import ast
import asyncio
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until, wait_until_async


def test_what_becomes_true_ends_the_wait() -> None:
    numbers = iter(range(10))
    assert wait_until("three", lambda: next(numbers), lambda number: number == 3) == 3


async def test_so_it_does_in_a_loop() -> None:
    numbers = iter(range(10))
    assert await wait_until_async("three", lambda: next(numbers), lambda number: number == 3) == 3
    event = asyncio.Event()

    async def look() -> str:
        event.set()
        return "seen"

    assert await wait_until_async("a word", look) == "seen"
    assert event.is_set()


def test_the_end_says_what_was_waited_for_and_seen_last() -> None:
    with pytest.raises(
        AssertionError, match=r"^the events: not within 0.01 s; seen last: 2\nits log$"
    ):
        wait_until(
            "the events",
            lambda: 2,
            lambda count: count > 2,
            seconds=0.01,
            explain=lambda: "its log",
        )


async def test_so_it_says_in_a_loop() -> None:
    with pytest.raises(AssertionError, match=r"^the events: not within 0.01 s; seen last: 2$"):
        await wait_until_async("the events", lambda: 2, lambda count: count > 2, seconds=0.01)


def test_only_the_named_errors_are_waited_through() -> None:
    steps = iter([ConnectionError("not yet"), None])

    def look() -> bool:
        if (error := next(steps)) is not None:
            raise error
        return True

    assert wait_until("the server", look, not_yet=(ConnectionError,))
    with pytest.raises(AssertionError, match=r"seen last: ConnectionError\('no'\)"):
        wait_until(
            "it",
            lambda: (_ for _ in ()).throw(ConnectionError("no")),
            not_yet=(OSError,),
            seconds=0.01,
        )
    with pytest.raises(ZeroDivisionError):
        wait_until("it", lambda: 1 / 0, not_yet=(OSError,))


ROOT = Path(__file__).parent
LEAST_SECONDS = 60
OURS = {"waiting.py", "test_waiting.py"}

# Sleeps of other length than 0: in which function, and why time is its subject there. Whoever waits
# for something uses tests/waiting.py.
SLEEPS = {
    "attacks/raw.py send": "a client that sends a head in small pieces",
    "common/test_connector.py asked": "a server that says more some time later",
    "common/test_fetch.py _dripping": "a peer that drips",
    "dcm4chee/archive.py Dcm4chee": "a study on tape takes so long",
    "journey/test_process.py retrieve_watching_memory": "a client of so many bytes a second",
    "journey/test_rolling_restart.py Balancer": "it looks so often",
    "journey/test_rolling_restart.py Load": "clients that take a breath",
    "journey/test_rolling_restart.py archive": "a study takes some time to send",
    "pacs/test_client_open.py test_a_body_comes_in_pieces_and_whole": "buffers fill before they are read",
    "pacs/test_client_open.py test_a_long_body_has_no_total_time": "a body takes longer than the time-out",
    "pacs/test_client_open.py test_the_end_of_a_chunk_is_no_end": "pieces that come apart",
    "pacs/test_socket_body.py test_a_reader_that_is_slow_slows_the_archive": "nothing is read for so long",
    "pacs/test_socket_body.py test_it_is_the_same_however_it_comes": "a warmed retrieval waits for its client",
    "pacs/test_socket_body.py test_whoever_leaves_while_it_is_silent_leaves_nothing_behind": "a peer that drips",
    "pacs/test_socket_body.py writing": "pieces that come apart",
    "telemetry/collector.py Collector": "a slow collector",
    "telemetry/fhir_repository.py FhirRepository": "a slow repository",
    "audit/test_delivery.py test_a_server_that_answers_too_late_gets_less_at_a_time": "slower the more it gets",
    "audit/test_delivery.py test_retry_after_is_heeded": "nothing comes for so long",
    "telemetry/test_logs.py test_durations_are_those_of_the_request_and_its_tasks": "a step takes so long at least",
    "test_reload.py archive": "an image takes some time to send",
    "test_reload.py test_the_end_gives_transfers_of_before_a_reload_their_time": "nothing is cut for so long",
    "tokens/test_introspection.py _slow_body": "a peer that drips",
    "tokens/test_introspection.py test_no_more_calls_at_once_than_the_server_can_be_asked_to_bear": "calls overlap",
    "fakes/ehr.py ScriptedEhr": "a slow EHR",
    "real/test_ohif.py SlowArchive": "an archive that needs so long for a frame",
    "test_invalidation.py ends": "what is asked for meanwhile is answered as it comes",
    "test_invalidation.py ends_without": "what is asked for meanwhile is answered as it comes",
    "web/test_freshness.py Archive": "a slow archive",
    "web/test_freshness.py test_permissions_are_never_remembered_with_the_data": "a cache's time passes",
    "web/test_middleware.py world": "a step takes so long at least",
    "web/test_stream_writer.py test_a_slow_client_is_waited_for_and_one_that_left_is_noticed": "nothing is read",
    "web/test_queries.py test_questions_about_absent_studies_wait_for_each_other": "questions overlap",
    "web/test_stream.py answer": "what was sent arrives before the reset",
    "web/test_stream.py test_a_slow_client_slows_the_pacs": "nothing is sent for so long",
    "web/test_send_buffers.py application": "answers that take some time",
    "web/test_send_buffers.py read_all": "a slow client",
    "web/test_send_buffers.py test_a_client_that_is_gone_holds_nothing_up": "nothing is read for so long",
    "web/test_send_buffers.py test_a_slow_client_gets_its_last_bytes_before_the_end": "nothing is read for so long",
    "web/test_send_buffers.py test_but_not_longer_than_it_may_take": "nothing is read for so long",
    "web/test_send_buffers.py test_one_that_is_reset_is_reset_at_once": "nothing is read for so long",
    "web/test_send_buffers.py test_one_that_takes_nothing_is_not_kept_for_ever": "nothing is read for so long",
    "web/test_send_buffers.py test_so_does_one_that_says_that_it_sends_nothing_more": "nothing is read for so long",
    "web/test_send_buffers.py test_so_does_one_whose_connection_was_closed_before": "nothing is read for so long",
    "web/test_send_buffers.py test_the_end_at_once_is_at_once": "nothing is read for so long",
    "web/test_send_buffers.py test_what_is_not_sent_in_time_is_reset": "nothing is read for so long",
}

# Limits below a minute: why a busy machine cannot make the test fail by them.
LIMITS = {
    "attacks/fuzz.py run": "it goes on for so long",
    "attacks/test_searches.py test_made_up_searches": "it goes on for so long",
    "attacks/test_table.py _ended": "a client that drips",
    "attacks/test_tracing.py test_made_up_targets": "it goes on for so long",
    "pacs/test_client_open.py test_a_long_body_has_no_total_time": "a time-out that must not count for the whole",
    "pacs/test_client_open.py test_a_pool_that_is_used_up_is_no_endless_wait": "it ends by the time-out",
    "pacs/test_client_open.py test_a_silent_pacs_is_a_timeout": "it ends by the time-out",
    "patients/test_ehr_lookup.py test_a_fault_is_not_no_studies": "it ends by the time-out",
    "audit/test_delivery.py test_a_server_that_answers_too_late_gets_less_at_a_time": "time-outs are its subject",
    "telemetry/test_delivery_aside.py test_one_that_spoils_every_request_it_is_in": "what comes too late is told again",
    "ehr/test_credentials.py test_a_fault_is_unavailable": "it ends by the time-out",
    "ehr/test_discovery.py test_a_fault_is_unavailable": "it ends by the time-out",
    "tokens/test_introspection.py test_a_fault_is_unavailable": "it ends by the time-out",
    "web/test_admin.py test_a_probe_that_was_given_up_goes_on_for_the_next": "who asked gives up",
    "web/test_failures.py test_a_failing_introspection_is_503": "too late is the same answer as the other faults",
    "web/test_freshness.py test_without_patience_a_slow_search_is_a_504": "it ends by the time-out",
    "web/test_stream.py test_a_stalled_pacs_is_a_broken_answer": "it ends by the time-out",
}

_LIMITS_BY_NAME = {"timeout", "timeout_seconds"}
_LIMITS_BY_PLACE = {
    "timeout": 0,
    "wait_for": 1,
    "wait": 0,
    "join": 0,
    "result": 0,
    "WebDriverWait": 1,
}
_CLOCKS = {"monotonic", "perf_counter", "time"}


def _name(node: ast.expr) -> str:
    return (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )


def _numbers(node: ast.expr) -> list[float]:
    """Return the number that it is, or those that it may be (``1 if a else 2``)."""
    if isinstance(node, ast.IfExp):
        return _numbers(node.body) + _numbers(node.orelse)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return [float(node.value)]
    return []


def _is_short(node: ast.expr) -> bool:
    return any(number < LEAST_SECONDS for number in _numbers(node))


def _asks_a_clock(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Call) and _name(one.func) in _CLOCKS for one in ast.walk(node))


def _sleeps(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and _name(node.func) == "sleep"
        and not (isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    )


def _limits(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        place = _LIMITS_BY_PLACE.get(_name(node.func))
        by_place = [] if place is None else node.args[place : place + 1]
        names = {"total"} if _name(node.func) == "ClientTimeout" else _LIMITS_BY_NAME
        by_name = [one.value for one in node.keywords if one.arg in names]
        return any(_is_short(one) for one in (*by_place, *by_name))
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return any(isinstance(key, ast.Constant) and key.value in _LIMITS_BY_NAME and _is_short(value)
                   for key, value in pairs)  # fmt: skip
    if isinstance(node, ast.Compare) and _asks_a_clock(node):
        # So long at most, or a loop until a deadline.
        sides = [node.left, *node.comparators]
        for (left, right), operator in zip(itertools.pairwise(sides), node.ops, strict=True):
            less, more = (left, right) if isinstance(operator, ast.Lt | ast.LtE) else (right, left)
            if _asks_a_clock(less) and (_is_short(more) or isinstance(more, ast.Name)):
                return True
    return False


def _functions(
    node: ast.AST, is_found: Callable[[ast.AST], bool], within: str = ""
) -> Iterator[str]:
    """Yield the outermost function or class of each node that is found; ``""`` for the module
    itself.
    """
    for one in ast.iter_child_nodes(node):
        name = (
            one.name
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            else ""
        )
        if is_found(one):
            yield within or name
        yield from _functions(one, is_found, within or name)


def _found(is_found: Callable[[ast.AST], bool]) -> set[str]:
    files = [
        file
        for file in ROOT.rglob("*.py")
        if "node_modules" not in file.parts and file.name not in OURS
    ]
    return {
        f"{file.relative_to(ROOT)} {function}"
        for file in files
        for function in _functions(ast.parse(file.read_text()), is_found)
    }


def test_a_sleep_has_a_reason() -> None:
    assert _found(_sleeps) == SLEEPS.keys()


def test_a_short_limit_has_a_reason() -> None:
    assert _found(_limits) == LIMITS.keys()


@pytest.mark.parametrize(
    "line",
    ["wait(5)", "process.wait(timeout=5)", "asyncio.timeout(2)", "asyncio.wait_for(x, 30)", "get(url, timeout=5)",
     "f(timeout_seconds=2 if x else 60)", "ClientTimeout(total=1)", "{'timeout_seconds': 5}",
     "assert time.monotonic() - began < 5",
     "time.monotonic() < deadline", "assert 5 > perf_counter() - began", "thread.join(10)"],
)  # fmt: skip
def test_short_limits_are_seen(line: str) -> None:
    """So that the tests above can fail."""
    assert list(_functions(ast.parse(f"def test(): {line}"), _limits)) == ["test"]
    assert not list(
        _functions(ast.parse(f"def test(): {re.sub('[0-9]+|deadline', '60', line)}"), _limits)
    )


def test_sleeps_are_seen() -> None:
    assert list(
        _functions(ast.parse("def test(): time.sleep(1)\nsleep(x)\nsleep(0)"), _sleeps)
    ) == ["test", ""]
