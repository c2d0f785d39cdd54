"""Waits end with the thing itself; and no test sleeps, or limits time, but where time is its
subject.
"""

import ast
import asyncio
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.tables.waiting import LIMITS, SLEEPS
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


_LIMITS_BY_NAME = {
    "timeout",
    "timeout_seconds",
    "ehr_timeout_seconds",
    "external_timeout_seconds",
    "pacs_timeout_seconds",
}
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
        return any(
            isinstance(key, ast.Constant) and key.value in _LIMITS_BY_NAME and _is_short(value)
            for key, value in pairs
        )
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


def _found(is_found: Callable[[ast.AST], bool], names: Iterable[str]) -> set[str]:
    """Return where it is found: files and functions. Files without the names are not parsed."""
    files = [
        file
        for file in ROOT.rglob("*.py")
        if "node_modules" not in file.parts and file.name not in OURS
    ]
    may_hold = re.compile(rf"\b(?:{'|'.join(names)})")
    return {
        f"{file.relative_to(ROOT)} {function}"
        for file in files
        if may_hold.search(source := file.read_text())
        for function in _functions(ast.parse(source), is_found)
    }


def test_a_sleep_has_a_reason() -> None:
    assert _found(_sleeps, ["sleep"]) == SLEEPS.keys()


def test_a_short_limit_has_a_reason() -> None:
    called = [rf"{name}\(" for name in ("ClientTimeout", *_LIMITS_BY_PLACE, *_CLOCKS)]
    assert _found(_limits, [*called, *_LIMITS_BY_NAME]) == LIMITS.keys()


@pytest.mark.parametrize(
    "line",
    [
        "wait(5)",
        "process.wait(timeout=5)",
        "asyncio.timeout(2)",
        "asyncio.wait_for(x, 30)",
        "get(url, timeout=5)",
        "f(timeout_seconds=2 if x else 60)",
        "ClientTimeout(total=1)",
        "{'timeout_seconds': 5}",
        "assert time.monotonic() - began < 5",
        "time.monotonic() < deadline",
        "assert 5 > perf_counter() - began",
        "thread.join(10)",
    ],
)
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
