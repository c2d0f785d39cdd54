"""Wildcard matching: what a naive reading of PS3.4 C.2.2.2.4 says, and how much work it takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.visibility import holds
from sidecar.access.wildcards import LONGEST_PATTERN, LONGEST_VALUE, matches, without_case


def naive(pattern: str, value: str) -> bool:
    """The definition, written down: exponential, and so for small texts alone."""
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(naive(pattern[1:], value[end:]) for end in range(len(value) + 1))
    return bool(value) and pattern[0] in ("?", value[0]) and naive(pattern[1:], value[1:])


@given(st.text("ab*?", max_size=7), st.text("ab\n*?.", max_size=7))
def test_it_matches_what_the_definition_matches(pattern: str, value: str) -> None:
    assert matches(pattern, value) is naive(pattern, value)


@given(st.text("ab*?", max_size=7), st.text("ab", max_size=9))
def test_with_more_of_what_matches(pattern: str, value: str) -> None:
    """Two letters alone: about half of the pairs match."""
    assert matches(pattern, value) is naive(pattern, value)


class Counted(str):
    """A character that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def work(pattern: str, value: str) -> int:
    """The comparisons of characters that one match takes."""
    Counted.comparisons = 0
    matches([Counted(one) for one in pattern], [Counted(one) for one in value])
    return Counted.comparisons


@given(
    st.text("ab*?", max_size=40)
    | st.sampled_from(["*" * 100 + "X", "*a" * 40 + "b", "*" + "?" * 40, "*?" * 40 + "b"]),
    st.text("ab", max_size=200) | st.integers(1, 300).map("a".__mul__),
)
def test_its_work_is_the_product_of_the_lengths_at_most(pattern: str, value: str) -> None:
    """Each step compares three times at most: with ``*``, with ``?``, with the value's
    character."""
    assert work(pattern, value) <= 3 * (len(pattern) + 1) * (len(value) + 1)


def test_what_a_client_sends_takes_no_more_than_one_look_at_each_character() -> None:
    """Runs of ``*`` cost nothing: here the pattern's length is added, not multiplied."""
    assert work("*" * 4_000 + "X", "CT" * 8) <= 3 * (4_000 + 2 * 16 + 2)


def test_case_does_not_count_as_it_does_not_for_the_regular_expressions_of_python() -> None:
    """All letters that have a case, each with all others: what a rule excludes has been decided by
    them so far."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    cased = [one for one in every if not one == one.lower() == one.upper() == one.casefold()]
    alike: dict[str, set[str]] = {}
    for one in cased:
        alike.setdefault(without_case(one), set()).add(one)
    text = "".join(cased)
    for same in alike.values():
        (first, *_) = same
        assert set(re.findall(re.escape(first), text, re.IGNORECASE)) == same


@given(st.text())
def test_without_case_keeps_the_length(text: str) -> None:
    """``?`` is one character."""
    assert len(without_case(text)) == len(text)
    assert without_case(without_case(text)) == without_case(text)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("x" * LONGEST_VALUE + "psych",), None),
        (("x" * LONGEST_VALUE + "psych", "head"), None),
        (("x" * LONGEST_VALUE + "psych", "psych"), True),
        (("x" * LONGEST_VALUE,), False),
        (("head",), False),
    ],
)
def test_a_value_that_is_too_long_to_be_compared_is_unknown(
    values: tuple[str, ...], expected: bool | None
) -> None:
    """Unknown excludes, and gives nothing (SIA-16)."""
    assert holds({"StudyDescription": ("*psych",)}, {"StudyDescription": values}) is expected


def test_the_bounds_leave_little_work() -> None:
    """One comparison of the longest pattern with the longest value, at its worst."""
    assert work("*a" * (LONGEST_PATTERN // 2 - 1) + "*b", "a" * LONGEST_VALUE) < 200_000
