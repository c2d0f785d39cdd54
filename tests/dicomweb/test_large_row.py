"""A large row that is taken apart comes out as one that is read as a whole."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Part
from sidecar.dicomweb import large_row
from sidecar.dicomweb.bulkdata_uris import BulkDataUris
from sidecar.dicomweb.large_row import LargeRow, NotJson
from sidecar.dicomweb.rewrite import TooDeep, rewrite_row

ROOT = "https://sidecar.example.org/wado-rs"
URIS = BulkDataUris(ROOT, Part("1.2", "1.3", "1.4"))
TAGS = (
    "00080018",
    "00081190",
    "00081199",
    "7FE00010",
    "52009230",
    "77771001",
    "00091001",
    "0040E010",
    "0008103E",
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31)
    | st.text(max_size=60)
    | st.floats(allow_nan=False, width=32)
    | st.sampled_from(
        [
            "http://pacs/rs/studies/1.2/bulkdata/1",
            "../bulkdata/7FE00010",
            "http://pacs/rs/studies/1.2",
        ]
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


def elements(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "vr": st.sampled_from(["SQ", "SQ", "LO", "UR", "PN", "OW", "sq", 7]),
            "Value": st.lists(items | LEAVES, max_size=9) | VALUES,
            "BulkDataURI": LEAVES,
            "InlineBinary": st.text(max_size=300),
            "more": VALUES,
        },
    )


ROWS = st.recursive(
    st.dictionaries(st.sampled_from(TAGS), elements(VALUES) | VALUES, max_size=4),
    lambda inner: st.dictionaries(st.sampled_from(TAGS), elements(inner), max_size=4),
    max_leaves=8,
)


def rewritten(text: bytes) -> Any:
    return orjson.loads(LargeRow(text).rewritten(ROOT, URIS))


@pytest.mark.parametrize(("part", "step"), [(1, 2), (20, 3), (100, 20), (1_000, 65_536)])
@given(row=ROWS, indent=st.booleans(), creator=st.booleans())
def test_it_comes_out_as_a_small_one(
    part: int, step: int, row: dict[str, Any], indent: bool, creator: bool
) -> None:
    if creator and part >= 100:  # One that is long counts as the archive's own.
        row["77770010"] = {"vr": "LO", "Value": ["DCM4CHEE Archive 5"]}
    text = orjson.dumps(row, option=orjson.OPT_INDENT_2 if indent else None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(large_row, "PART_BYTES", part)
        patched.setattr(large_row, "STEP_BYTES", step)
        assert rewritten(text) == orjson.loads(
            orjson.dumps(rewrite_row(orjson.loads(text), ROOT, uris=URIS))
        )


@pytest.mark.parametrize(
    "text",
    [
        b'{"00080018":{"vr":"UI","Value":["1"]},"00080018":{}}',
        b'{"a":[1,]}',
        b'{"a":1,}',
        b'{"a" 1}',
        b'{"a":[1 2]}',
        b'{"a":{]}',
        b'{"a":[}}',
        b'{"a":tru}',
        b'{"a":"\\x"}',
        b'{"a":nan}',
        b'{"a\xff":1}',
        b'{"a":01}',
        b'{"a":{"vr":"LO","Value":[nul]}}',
        b'{"a":\xff}',
        b'{"a":',
        b"{",
        b'{"',
        b'{"a":"',
    ],
)
@pytest.mark.parametrize(("part", "step"), [(0, 2), (6, 3), (1_000, 65_536)])
def test_what_is_no_json_is_refused(
    text: bytes, part: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_row, "PART_BYTES", part)
    monkeypatch.setattr(large_row, "STEP_BYTES", step)
    with pytest.raises(NotJson):
        rewritten(text.replace(b'"a"', b'"00080018"'))


def test_depth_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_row, "PART_BYTES", 1)
    deep = b'{"00081199":{"vr":"SQ","Value":[' * 70 + b"{}" + b"]}}" * 70
    with pytest.raises(TooDeep):
        rewritten(deep)


MANY = 40_000
SMALLER = 8
"""The module's limits, and so the texts here, are that many times smaller; what is exhaustive has
them as they are.
"""


@pytest.fixture(params=[SMALLER, pytest.param(1, marks=pytest.mark.exhaustive)])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many times as large as here the texts have to be for the limits."""
    smaller: int = request.param
    for name in ("PART_BYTES", "WHOLE_BYTES", "STEP_BYTES"):
        monkeypatch.setattr(large_row, name, getattr(large_row, name) // smaller)
    return SMALLER // smaller


OF_ONE_KIND: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda most: b'{"00280030":{"vr":"DS","Value":[' + b",".join([b"1"] * most) + b"]}}",
    "spaces": lambda most: (
        b'{"00280030":' + b" " * most + b'{"vr":"DS","Value":[1' + b" " * most + b"]}}"
    ),
    "a string": lambda most: b'{"00280030":{"vr":"OW","InlineBinary":"' + b"A" * most + b'"}}',
    "escapes": lambda most: b'{"00280030":{"vr":"LT","Value":["' + rb"\"" * most + b'"]}}',
    "backslashes": lambda most: b'{"00280030":{"vr":"LT","Value":["' + rb"\\" * most + b'"]}}',
    "items": lambda most: b'{"00081199":{"vr":"SQ","Value":[' + b",".join([b"{}"] * most) + b"]}}",
    "strings": lambda most: (
        b'{"00280030":{"vr":"LO","Value":[' + b",".join([b'"a"'] * most) + b"]}}"
    ),
    "an item with strings": lambda most: (
        b'{"00081199":{"vr":"SQ","Value":[{"00280030":{"vr":"LO","Value":['
        + b",".join([b'"a"'] * most)
        + b"]}}]}}"
    ),
}


class Seen:
    """Stands for a pattern, or the JSON library; notes the largest text that one call looks at."""

    def __init__(self, of: Any, largest: list[int]) -> None:
        self.of, self.largest = of, largest

    def match(self, text: bytes, start: int, end: int) -> Any:
        """As a pattern's."""
        self.largest.append(min(end, len(text)) - start)
        return self.of.match(text, start, end)

    def loads(self, text: bytes) -> Any:
        """As the library's; a single string is left out."""
        if not text.startswith(b'"'):
            self.largest.append(len(text))
        return self.of.loads(text)

    def dumps(self, value: Any) -> bytes:
        """As the library's."""
        return bytes(self.of.dumps(value))


@pytest.mark.parametrize("what", OF_ONE_KIND)
def test_no_call_holds_the_interpreter_for_long(
    what: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives way to the event loop between two bytecodes, not within a call of C."""
    text = OF_ONE_KIND[what](MANY * many)
    expected = rewrite_row(orjson.loads(text), ROOT, uris=URIS)
    largest: list[int] = []
    for name in ("_SPACE", "_IN_STRING", "_SCALAR", "_TO_BRACKET", "orjson"):
        monkeypatch.setattr(large_row, name, Seen(getattr(large_row, name), largest))
    assert rewritten(text) == expected
    assert max(largest) <= large_row.STEP_BYTES + 2


@pytest.mark.parametrize(
    "attribute",
    [
        '{"vr":"LO","Value":["1"],"more":%s}',
        '{"vr":"LO","Value":[%s]}',
        '{"vr":"UR","Value":%s}',
        "%s",
    ],
)
def test_what_dicom_does_not_know_so_large_is_refused(attribute: str, many: int) -> None:
    text = '{"00080018":' + attribute % ("[" + ",".join(["[]"] * (MANY * many)) + "]") + "}"
    with pytest.raises(TypeError):
        rewritten(text.encode())
