"""Regular expressions are constants, never made of what others send, and each takes linear time.

One that is made of a client's, a peer's or a token's text can be made to run for ever. ``fnmatch``
makes one, too.
"""

import ast
import functools
import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar

SOURCES = sorted(Path(sidecar.__file__).parent.rglob("*.py"))
TAKES_A_PATTERN = {
    "compile",
    "fullmatch",
    "match",
    "search",
    "sub",
    "subn",
    "split",
    "findall",
    "finditer",
    "template",
}
LENGTH = 8_192
"""Characters: what a header may have at most."""
QUADRATIC = re.compile("a+b")
"""No quadratic pattern takes less than this one; a linear one takes a twentieth at most."""


def constants(tree: ast.Module) -> set[str]:
    """The names that stand for a constant text in this module."""
    found: set[str] = set()
    for one in tree.body:
        if not isinstance(one, ast.Assign) or not is_constant(one.value, found):
            continue
        found |= {target.id for target in one.targets if isinstance(target, ast.Name)}
    return found


def is_constant(node: ast.expr, known: set[str]) -> bool:
    """A literal, a name of one, or an f-string of such names."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.FormattedValue):
        return is_constant(node.value, known)
    return isinstance(node, ast.JoinedStr) and all(is_constant(one, known) for one in node.values)


def made_patterns(source: str) -> list[str]:
    """What in this source makes a regular expression of something that is no constant."""
    tree = ast.parse(source)
    known = constants(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(
            one.name in ("fnmatch", "regex", "re2") or (one.name == "re" and one.asname)
            for one in node.names
        ):
            found.append(f"line {node.lineno}: import")
        if isinstance(node, ast.ImportFrom) and node.module in ("re", "fnmatch"):
            found.append(f"line {node.lineno}: import from {node.module}")
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in TAKES_A_PATTERN
            and not (node.args and is_constant(node.args[0], known))
        ):
            found.append(f"line {node.lineno}: re.{node.func.attr}")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=str)
def test_each_pattern_is_a_constant(file: Path) -> None:
    assert made_patterns(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(x)",
        "import re\nre.fullmatch('a' + x, y)",
        "import re\nre.search(f'{x}', y)",
        "import re\nre.compile(pattern=x)",
        "import re\nX = input()\nre.compile(X)",
        "import fnmatch",
        "import re as r",
        "from re import compile",
        "from fnmatch import translate",
        "import re\nall = [re.compile(rf'a{one}') for one in 'xy']",
    ],
)
def test_that_test_can_fail(source: str) -> None:
    assert made_patterns(source)


def test_constants_pass_it() -> None:
    assert not made_patterns(
        "import re\n_A = r'[a-z]+'\n_B = rf'{_A}*'\nre.compile(_B)\nre.match(rb'x' rb'y', z)\n"
    )


def patterns() -> Iterator[tuple[str, "re.Pattern[Any]", str]]:
    """Each pattern of the package, and by which method it is used: ``search`` tries each place of a
    text."""
    for module_info in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
        if module_info.name.endswith("__main__"):
            continue
        module = importlib.import_module(module_info.name)
        source = Path(str(module.__file__)).read_text()
        for name, value in vars(module).items():
            for one in value.values() if isinstance(value, dict) else [value]:
                if isinstance(one, re.Pattern):
                    used = (
                        set(re.findall(rf"\b{name}(?:\[[^\]]*\])?\.(\w+)\(", source))
                        & TAKES_A_PATTERN
                    )
                    for method in sorted(used) or ["fullmatch"]:
                        yield f"{module_info.name}.{name}", one, method
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr != "compile"
                and isinstance(node.args[0], ast.Constant)
            ):
                yield (
                    f"{module_info.name}:{node.lineno}",
                    re.compile(node.args[0].value),
                    node.func.attr,
                )


@functools.cache
def timed_patterns() -> list[tuple[str, "re.Pattern[Any]", str]]:
    """Return those whose use takes no second text; the package is searched for them once."""
    return [
        (name, pattern, method)
        for name, pattern, method in patterns()
        if method not in ("sub", "subn")
    ]


UNITS = (
    "a",
    "0",
    " ",
    ".",
    ",",
    "/",
    "\\",
    '"',
    '\\"',
    "{",
    "=",
    "%",
    "a ",
    "a.",
    "0.",
    "a=b;",
    'a="b";',
    '"a"',
    '"",',
    "!",
    "! ",
    "299 ",
    "token",
    "/Patient/a",
    "Patient/a/_history/",
    "https://a/",
    "127.0.0.1",
    "W/",
    "*",
    "\u20ac",
    "\u0130",
    "+a",
    "?a=b&",
)
LEADS = (
    "",
    "a",
    '"',
    "bearer ",
    "https://",
    "http://127.0.0.1",
    "a/b;",
    "a/b; c=",
    'a/b; c="',
    "2024",
    "299 ",
    "/aets/",
    "bytes=",
    'W/"',
    "patient/Patient.r?",
    "0.",
)
ENDS = ("", "\n\0")


def seconds(pattern: "re.Pattern[Any]", method: str, text: Any) -> float:
    """CPU time."""
    began = time.thread_time()
    found = getattr(pattern, method)(text)
    if method == "finditer":
        for _ in found:
            pass
    return time.thread_time() - began


@functools.cache
def half_of_quadratic(length: int) -> float:
    """CPU time for ``length`` characters, half of a quadratic pattern's on this machine."""
    return min(seconds(QUADRATIC, "search", "a" * length) for _ in range(5)) / 2


@pytest.mark.parametrize("unit", UNITS)
def test_each_pattern_takes_linear_time(unit: str) -> None:
    """A unit again and again, behind what the pattern may want before it, and an end that does not
    fit."""
    every = timed_patterns()
    assert len(every) > 60
    for begin, end in itertools.product(LEADS, ENDS):
        text = begin + unit * (LENGTH // len(unit)) + end
        short = begin + unit * (LENGTH // 8 // len(unit)) + end
        in_bytes, short_in_bytes = text.encode(), short.encode()
        for name, pattern, method in every:
            is_bytes = isinstance(pattern.pattern, bytes)
            looked_at = short_in_bytes if is_bytes else short
            if seconds(pattern, method, looked_at) < half_of_quadratic(LENGTH // 8):
                continue
            subject = in_bytes if is_bytes else text
            # Once more: a busy machine is no proof.
            if seconds(pattern, method, subject) > half_of_quadratic(LENGTH):
                assert seconds(pattern, method, subject) < half_of_quadratic(LENGTH), (
                    name,
                    method,
                    begin,
                    unit,
                    end,
                )


@pytest.mark.parametrize("pattern", ["a+b", "[a-z]+;", "(?:a|b)+c", ".*b", r"(a)+b", r"\w+\s"])
def test_a_quadratic_pattern_is_seen(pattern: str) -> None:
    """So that the test above can fail."""
    compiled = re.compile(pattern)
    for length in (LENGTH // 8, LENGTH):
        assert seconds(compiled, "search", "a" * length) > half_of_quadratic(length)
