"""JSON with a value that is none: what is read of it."""

import pytest

from sidecar.dicomweb.lenient_json import LIMIT_BYTES, read_json

READ: dict[str, tuple[bytes, object]] = {
    "NaN": (b'{"vr": "FD", "Value": [1, NaN, -Infinity, Infinity]}', {"vr": "FD", "Value": [1, None, None, None]}),
    "a number that is too large": (b"[NaN, 1e999]", [None, None]),
    "Latin-1": ("[\"Müller\"]".encode("latin-1"), ["M\ufffdller"]),
    "a cut sequence": (b'["M\xc3"]', ["M\ufffd"]),
    "half a pair": (b'["a\\ud83d", "\\ude00b", "\\ud83d\\ude00"]', ["a\ufffd", "\ufffdb", "\U0001f600"]),
    "a surrogate in UTF-8": (b'["\xed\xa0\x80"]', ["\ufffd\ufffd\ufffd"]),
    "control characters": (b'["a\x00b\x1b"]', ["a\x00b\x1b"]),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_what_can_be_read(case: str) -> None:
    written, value = READ[case]
    assert read_json(written) == (value, True)


def test_what_is_sound() -> None:
    assert read_json('{"a": ["Müller", 1.5, null]}'.encode()) == ({"a": ["Müller", 1.5, None]}, False)


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"[1,]", b"{'a': 1}", b"[nan]", b"[1] x", b'{"a\xff": 1}', b'{"a\\ud800": 1}', b'[{"b": {"\xff": 1}}]',
     "[1]".encode("utf-16"), b"[" * 100_000, b'["\xff", ' + b" " * LIMIT_BYTES + b"1]"],
)  # fmt: skip
def test_what_cannot(written: bytes) -> None:
    """What a value is must be known; what is long would hold everybody."""
    with pytest.raises(ValueError):  # noqa: PT011  # Its text is for nobody.
        read_json(written)
