"""JSON with a value that is none: what is read of it."""

import pytest

from sidecar.dicomweb.json_rows import DAMAGED_BYTES, read_json, read_row

READ: dict[str, tuple[bytes, object]] = {
    "NaN": (
        b'{"vr": "FD", "Value": [1, NaN, -Infinity, Infinity]}',
        {"vr": "FD", "Value": [1, None, None, None]},
    ),
    "a number that is too large": (b"[NaN, 1e999]", [None, None]),
    "an integer that is too large": (
        b"[NaN, 18446744073709551615, 18446744073709551616, -9223372036854775809, %d]" % 10**400,
        [None, 2**64 - 1, 2.0**64, -(2.0**63), None],
    ),
    "Latin-1": ('["Müller"]'.encode("latin-1"), ["M\ufffdller"]),
    "a cut sequence": (b'["M\xc3"]', ["M\ufffd"]),
    "half a pair": (
        b'["a\\ud83d", "\\ude00b", "\\ud83d\\ude00"]',
        ["a\ufffd", "\ufffdb", "\U0001f600"],
    ),
    "a surrogate in UTF-8": (b'["\xed\xa0\x80"]', ["\ufffd\ufffd\ufffd"]),
    "control characters": (b'["a\x00b\x1b"]', ["a\x00b\x1b"]),
}


@pytest.mark.parametrize("case", READ)
def test_what_can_be_read(case: str) -> None:
    written, value = READ[case]
    assert read_json(written) == (value, True)


def test_what_is_sound() -> None:
    assert read_json('{"a": ["Müller", 1.5, null]}'.encode()) == (
        {"a": ["Müller", 1.5, None]},
        False,
    )


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a': 1}",
        b"[nan]",
        b"[1] x",
        b'{"a\xff": 1}',
        b'{"a\\ud800": 1}',
        b'[{"b": {"\xff": 1}}]',
        b'{"a": 1, "b": NaN, "a": 2}',
        "[1]".encode("utf-16"),
        b"[" * 100_000,
        b'["\xff", ' + b" " * DAMAGED_BYTES + b"1]",
    ],
)
def test_what_cannot(written: bytes) -> None:
    """What a value is must be known; what is long would hold everybody."""
    with pytest.raises(ValueError):  # noqa: PT011  # Its text is for nobody.
        read_json(written)


TWICE: dict[str, tuple[bytes, bool]] = {
    "once": (b'{"00100020": {"Value": ["A"]}}', True),
    "the same value": (b'{"00100020": {"Value": ["A"]}, "00100020": {"Value": ["A"]}}', True),
    "another value": (b'{"00100020": {"Value": ["B"]}, "00100020": {"Value": ["A"]}}', False),
    "another study": (b'{"0020000D": {"Value": ["1.2"]}, "0020000D": {"Value": ["1.3"]}}', False),
    "another character set": (
        b'{"00080005": {"Value": ["A"]}, "00080005": {"Value": ["B"]}}',
        False,
    ),
    "another issuer": (b'{"00100021": {"Value": ["A"]}, "00100021": {"Value": ["B"]}}', False),
    "another instance": (b'{"00080018": {"Value": ["1"]}, "00080018": {"Value": ["2"]}}', False),
    "another series by keyword": (
        b'{"SeriesInstanceUID": {}, "SeriesInstanceUID": {"Value": ["2"]}}',
        False,
    ),
    "in small letters": (
        b'{"0020000d": {"Value": ["1.2"]}, "0020000d": {"Value": ["1.3"]}}',
        False,
    ),
    "by keyword": (b'{"PatientID": {"Value": ["B"]}, "PatientID": {"Value": ["A"]}}', False),
    "a digit by its number": (
        b'{"0010002\\u0030": {"Value": ["B"]}, "00100020": {"Value": ["A"]}}',
        False,
    ),
    "a letter by its number": (
        b'{"\\u0050atientID": {"Value": ["B"]}, "PatientID": {"Value": ["A"]}}',
        False,
    ),
    "in a sequence as well": (
        b'{"00081140": {"Value": [{"00100020": {}}]}, "00100020": {"Value": ["A"]}}',
        True,
    ),
    "twice in a sequence": (
        b'{"00081140": {"Value": [{"00100020": {}, "00100020": {"Value": ["B"]}}]}}',
        False,
    ),
    "damaged": (
        b'{"00100020": {"Value": ["B"]}, "00100020": {"Value": ["A"]}, "00280030": NaN}',
        False,
    ),
}


@pytest.mark.parametrize("case", TWICE)
def test_what_identifies_a_row_stands_once(case: str) -> None:
    """As in files (docs/files.md): readers take the first value, or the last."""
    written, is_read = TWICE[case]
    if is_read:
        assert read_row(written)[1] is False
    else:
        with pytest.raises(ValueError, match="twice"):
            read_row(written)
