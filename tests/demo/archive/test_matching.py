"""Attribute matching of PS3.4 C.2.2.2, against plain models of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.demo.archive.matching import compile_key

LETTERS = st.text(alphabet="abAB ^[]!-.1", max_size=8)
PATTERNS = st.text(alphabet="abAB ^[]!-.1*?", max_size=8)
DATES = st.dates().map(lambda date: date.strftime("%Y%m%d").rjust(8, "0"))


def like(text: str, pattern: str) -> bool:
    """Wildcard matching as a definition: ``*`` is any text, ``?`` one character, everything else
    itself.
    """
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(like(text[position:], pattern[1:]) for position in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and like(text[1:], pattern[1:])


@given(LETTERS, PATTERNS)
def test_wildcards_are_what_their_definition_says(value: str, pattern: str) -> None:
    key = pattern.strip(" ")
    expected = not key.strip("* ") or like(value.strip(" "), key)
    assert compile_key("LO", pattern)([value]) is expected


@given(LETTERS, PATTERNS)
def test_names_ignore_case_and_empty_components_at_the_end(value: str, pattern: str) -> None:
    key = pattern.strip(" ").rstrip("^ ").lower()
    expected = (
        not pattern.strip("* ")
        or like(value.rstrip("^ ").lower(), key)
        or (not key and not value.rstrip("^ "))
    )
    assert compile_key("PN", pattern)([{"Alphabetic": value}]) is expected


@given(st.lists(DATES, max_size=3), DATES, DATES)
def test_date_ranges_include_their_ends(values: list[str], first: str, last: str) -> None:
    assert compile_key("DA", f"{first}-{last}")(values) is any(
        first <= value <= last for value in values
    )
    assert compile_key("DA", f"{first}-")(values) is any(first <= value for value in values)
    assert compile_key("DA", f"-{last}")(values) is any(value <= last for value in values)
    assert compile_key("DA", first)(values) is (first in values)


@given(st.times(), st.times(), st.times())
def test_time_ranges(value: Any, first: Any, last: Any) -> None:
    written, low, high = (time.strftime("%H%M%S.%f") for time in (value, first, last))
    assert compile_key("TM", f"{low}-{high}")([written]) is (first <= value <= last)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 9),
    st.sampled_from([",", "\\"]),
)
def test_lists_of_uids(wanted: list[int], there: int, separator: str) -> None:
    key = separator.join(f"1.2.{number}" for number in wanted)
    assert compile_key("UI", key)([f"1.2.{there}"]) is (there in wanted)


@given(
    st.text(max_size=40),
    st.sampled_from(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"]),
)
def test_any_key_is_either_malformed_or_answers(key: str, vr: str) -> None:
    try:
        matches = compile_key(vr, key)
    except ValueError:
        assert vr in ("DA", "DS", "DT", "IS", "TM")
    else:
        assert matches(["20240101", 7, {"Alphabetic": "Doe"}]) in (True, False)


@pytest.mark.parametrize(
    ("vr", "key", "values", "expected"),
    [
        ("LO", "", [], True),
        ("LO", "*", [], True),
        ("LO", "a*", [], False),
        ("LO", "Thorax", ["thorax"], False),
        ("LO", " Thorax ", ["Thorax "], True),
        ("CS", "CR\\CT", ["MR", "CT"], True),
        ("UI", "1.2.*", ["1.2.3"], False),
        ("IS", "1", [1], True),
        ("IS", "01", [1], True),
        ("IS", "1", ["x"], False),
        ("DS", "1.0", [1.0], True),
        ("PN", "yamada^tarou", [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}], True),
        ("PN", "山田*", [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}], True),
        ("PN", "*=山田^太郎", [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}], True),
        ("PN", "STRASSE", [{"Alphabetic": "Straße"}], True),
        ("PN", "Doe", [{"Alphabetic": "Doe^Jane"}], False),
        ("DA", "20240101", ["2024.01.01"], True),
        ("DA", "2024.01.01-2024.01.31", ["20240115"], True),
        ("DA", "20240101-", [""], False),
        ("TM", "10", ["103000"], True),
        ("TM", "1000-1029", ["102959.5"], True),
        ("TM", "1000-1029", ["103000"], False),
        ("TM", "10:00:00-", ["100000"], True),
        ("DT", "20240101-0500", ["20240101"], True),
        ("DT", "20240101120000-0500-20240102", ["202401011300"], True),
        ("DT", "2024-", ["20231231235959.999999+0100"], False),
        ("DT", "-2024", ["20241231235959"], True),
    ],
)
def test_examples(vr: str, key: str, values: list[Any], *, expected: bool) -> None:
    assert compile_key(vr, key)(values) is expected


@pytest.mark.parametrize(
    ("vr", "key"),
    [
        ("DA", "today"),
        ("DA", "2024"),
        ("DA", "-"),
        ("DA", "20240101-x"),
        ("TM", "1"),
        ("DT", "--"),
        ("IS", "one"),
    ],
)
def test_malformed_keys_are_refused(vr: str, key: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        compile_key(vr, key)


def test_many_wildcards_take_no_exponential_time() -> None:
    assert compile_key("LO", "*a" * 60 + "b")(["a" * 200]) is False
