"""Where a page begins: the opaque text in a ``next`` link."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.common.errors import BadRequest
from sidecar.fhir.search import Cursor


def decoded(text: str) -> Cursor | None:
    """Return the cursor, or ``None`` when it is refused."""
    try:
        return Cursor.decode(text)
    except BadRequest:
        return None


numbers = st.integers(-(2**62), 2**62)
uids = st.from_regex(r"\A(0|[1-9][0-9]{0,9})(\.(0|[1-9][0-9]{0,9})){1,5}\Z")
cursors = st.builds(Cursor, numbers, uids, st.integers(-(2**43) + 1, 2**43 - 1))


@given(cursors)
def test_cursors_come_back_as_they_went(cursor: Cursor) -> None:
    """And they need no escape in a URL."""
    text = cursor.encode()
    assert Cursor.decode(text) == cursor
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


DAMAGED = [
    "", "x", "x" * 5, "null", "=", "====", "é", "\ud800", "[1,1.2]", "WzEs", "WzEsIjEuMiIsM1", "AAAA", "/+/+",
    *map(encoded, (
        None, 1, "abc", [], {}, [1], [1, 2], [1, "1.2"], [1, "1.2", 3, 4], ["1", "1.2", 3], [1.5, "1.2", 3],
        [None, "1.2", 3], [True, "1.2", 3], [1, None, 3], [1, 2, 3], [1, ["1.2"], 3], [1, "", 3], [1, "x", 3],
        [1, "1.02", 3], [1, "*", 3], [1, "1.2\\1.3", 3], [1, "1." * 40 + "1", 3], [1, "1.2 ", 3], [[1], "1.2", 3],
        [1, "1.2", None], [1, "1.2", "3"], [1, "1.2", 3.0], [1, "1.2", True], [2**64, "1.2", 3], [1, "1.2", 2**64],
        [1e400, "1.2", 3], {"a": 1, "b": 2, "c": 3}, "1.2",
    )),
    encoded([[[[]]]]), "W" * 4_000,
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=ascii)
def test_damaged_cursors_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="bad_cursor"):
        Cursor.decode(text)


GOOD = encoded([1, "1.2", 3])


def test_the_good_one_among_the_damaged() -> None:
    """So that those are refused for what is wrong with them."""
    assert Cursor.decode(GOOD) == Cursor(1, "1.2", 3)


@pytest.mark.parametrize(
    "text",
    [GOOD[:4] + "!" + GOOD[4:], GOOD[:4] + "\n" + GOOD[4:], GOOD + "====", GOOD + "=", " " + GOOD, GOOD + "A",
     base64.urlsafe_b64encode(b'[1, "1.2", 3]').decode().rstrip("=")],
    ids=ascii,
)  # fmt: skip
def test_cursors_that_we_never_wrote_are_refused(text: str) -> None:
    """One spelling for each: ``link.self`` has what the client sent."""
    with pytest.raises(BadRequest, match="bad_cursor"):
        Cursor.decode(text)


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
@example("W" * 10_000)
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    cursor = decoded(text)
    assert cursor is None or decoded(cursor.encode()) == cursor


@given(cursors, st.data())
def test_a_cursor_with_one_character_changed_is_a_cursor_or_refused(cursor: Cursor, data: st.DataObject) -> None:
    """It may be another cursor (nothing is signed: it permits nothing), never another failure."""
    text = cursor.encode()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(["", "A", "_", "-", "=", "%", "é", text[place] * 2]))
    changed = decoded(text[:place] + other + text[place + 1 :])
    assert changed is None or decoded(changed.encode()) == changed
