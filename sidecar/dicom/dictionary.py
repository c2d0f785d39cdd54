"""The data dictionary (PS3.6): VR and keyword of the standard's attributes.

``dictionary.tsv`` has what pydicom's dictionary has, in lines of tag, VR, keyword and ``retired``;
``python -m tests.dicom.dictionary`` writes it. To import pydicom would bring numpy and more along:
36 MB of memory for a table of 1 MB. An ``x`` in a tag stands for any digit: a repeating group.
"""

from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """An attribute of the standard."""

    vr: str
    keyword: str
    is_retired: bool


def entry(tag: int) -> Entry | None:
    """Return the entry of a tag, that of a repeating group too."""
    found = STANDARD.get(tag)
    if found is not None or tag >> 16 & 1:  # The repeating groups are even.
        return found
    return next((other for digits, mask, other in _REPEATING if tag & mask == digits), None)


def vr_of(tag: int) -> str:
    """Return the VR of a tag, which may be several (``US or SS``). Raises ``KeyError``."""
    found = entry(tag)
    if found is None:
        raise KeyError(tag)
    return found.vr


def tag_of(keyword: str) -> int | None:
    """Return the tag of a keyword, ``None`` for what is none."""
    return _TAGS.get(keyword)


def _read() -> tuple[dict[int, Entry], list[tuple[int, int, Entry]]]:
    standard, repeating = dict[int, Entry](), list[tuple[int, int, Entry]]()
    for line in Path(__file__).with_name("dictionary.tsv").read_text("utf-8").splitlines():
        tag, vr, keyword, retired = line.split("\t")
        found = Entry(vr, keyword, bool(retired))
        if "x" in tag:
            mask = int("".join("0" if digit == "x" else "f" for digit in tag), 16)
            repeating.append((int(tag.replace("x", "0"), 16), mask, found))
        else:
            standard[int(tag, 16)] = found
    return standard, repeating


STANDARD, _REPEATING = _read()
"""The entries without repeating groups, by tag."""
_TAGS = {found.keyword: tag for tag, found in STANDARD.items() if found.keyword}
