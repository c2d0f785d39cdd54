"""Where a page begins: the opaque, signed text in a ``next`` link."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.common.errors import BadRequest
from sidecar.fhir.cursor import Cursor, PageLinks

LINKS = PageLinks(b"key")
PARAMETERS = [("patient", "123"), ("started", "ge2024")]

numbers = st.integers(-(2**62), 2**62)
uids = st.from_regex(r"\A(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){1,5}\Z")
cursors = st.builds(
    Cursor,
    st.lists(numbers, min_size=1, max_size=3).map(tuple),
    uids,
    st.integers(-(2**43) + 1, 2**43 - 1),
)


def seal(cursor: Cursor) -> str:
    return LINKS.seal(cursor, "123", PARAMETERS)


def opened(text: str) -> Cursor | None:
    """Return the cursor, or ``None`` when it is refused."""
    try:
        return LINKS.open(text, "123", PARAMETERS)
    except BadRequest:
        return None


@given(cursors)
def test_cursors_come_back_as_they_went(cursor: Cursor) -> None:
    """And they need no escape in a URL."""
    text = seal(cursor)
    assert opened(text) == cursor
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(cursors, st.data())
def test_an_edited_cursor_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    text = seal(cursor)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(["", "A", "_", "-", "=", "%", "é", text[place] * 2]))
    changed = text[:place] + other + text[place + 1 :]
    assert opened(changed) == (cursor if changed == text else None)


@pytest.mark.parametrize(
    ("key", "patient", "parameters"),
    [
        (b"other", "123", PARAMETERS),
        (b"key", "124", PARAMETERS),
        (b"key", "123", []),
        (b"key", "123", [("patient", "124"), ("started", "ge2024")]),
        (b"key", "123", PARAMETERS[::-1]),
        (b"key", "123", [("patient", "123&started=ge2024")]),
    ],
    ids=str,
)
def test_a_link_is_for_one_patient_and_one_search(
    key: bytes, patient: str, parameters: list[tuple[str, str]]
) -> None:
    """Another patient's, another search's, another server's: refused, although permission never
    rests on it.
    """
    with pytest.raises(BadRequest, match="bad_cursor"):
        PageLinks(key).open(seal(Cursor((5,), "1.2", 3)), patient, parameters)


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
@example("W" * 10_000)
@example("\ud800")
@example("")
def test_any_text_is_refused(text: str) -> None:
    assert opened(text) is None


BAD: list[object] = [
    None,
    1,
    "abc",
    [],
    {},
    [1],
    [[1], "1.2"],
    [[1], "1.2", 3, 4],
    [["1"], "1.2", 3],
    [[1.5], "1.2", 3],
    [[None], "1.2", 3],
    [[True], "1.2", 3],
    [[1], None, 3],
    [[1], 2, 3],
    [[1], ["1.2"], 3],
    [[1], "", 3],
    [[1], "x", 3],
    [[1], "1..2", 3],
    [[1], "*", 3],
    [[1], "1.2\\1.3", 3],
    [[1], "1." * 64 + "1", 3],
    [[], "1.2", 3],
    [[1], "1.2", None],
    [[1], "1.2", "3"],
    [[1], "1.2", 3.0],
    [[1], "1.2", True],
    [[1], "1.2", 2**64],
    [[1] * 5, "1.2", 3],
    [1, "1.2", 3],
]


@pytest.mark.parametrize("value", BAD, ids=str)
def test_even_what_is_signed_must_make_sense(value: object) -> None:
    """Of another version of this server with the same key, during an update."""
    payload = json.dumps(value).encode()
    sealed = LINKS._mac(payload, "123", PARAMETERS) + payload
    assert opened(base64.urlsafe_b64encode(sealed).decode().rstrip("=")) is None


def test_keys_are_told_apart_without_telling_them() -> None:
    """For the ETag of a page: a client must not keep one whose link is another key's."""
    assert PageLinks(b"key").key_id == LINKS.key_id != PageLinks(b"other").key_id
    assert b"key".hex() not in LINKS.key_id
