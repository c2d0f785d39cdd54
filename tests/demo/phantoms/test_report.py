"""The PDF: its table says where each object begins (ISO 32000-1 7.5.4), and its text is in it."""

import re

import pytest

from sidecar.demo.phantoms.report import pdf

MADE = pdf("A (title)", [("Patient", "Ada")], ["word " * 60, r"back\slash"])


def test_each_object_is_where_the_table_says() -> None:
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", MADE)[1])  # type: ignore[index]
    assert MADE[start:].startswith(b"xref\n0 7\n0000000000 65535 f \n")
    offsets = [int(offset) for offset in re.findall(rb"(\d{10}) 00000 n \n", MADE[start:])]
    assert len(offsets) == 6
    for number, offset in enumerate(offsets, 1):
        assert MADE[offset:].startswith(b"%d 0 obj\n" % number)


def test_the_stream_is_as_long_as_it_says() -> None:
    length, content = re.search(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", MADE, re.S).groups()  # type: ignore[union-attr]
    assert len(content) == int(length)


def test_brackets_are_escaped_and_lines_are_broken() -> None:
    assert rb"(A \(title\))" in MADE
    assert rb"(back\\slash)" in MADE
    lines = re.findall(rb"\((word[^)]*)\)", MADE)
    assert len(lines) == 4
    assert max(map(len, lines)) < 85


def test_other_letters_are_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        pdf("Ärztin", [], [])
