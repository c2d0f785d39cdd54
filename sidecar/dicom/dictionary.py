"""The data dictionary (PS3.6): VR and keyword of the standard's attributes.

``dictionary.tsv`` has what pydicom's dictionary has, in lines of tag, VR, keyword and ``retired``;
``python -m tests.dicom.dictionary`` writes it. Importing pydicom would bring numpy along
(docs/decisions/0050). An ``x`` in a tag stands for any digit: a repeating group.
"""

from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """An attribute of the standard."""

    vr: str
    keyword: str
    is_retired: bool


def entry(tag: int) -> Entry | None:
    """Return the entry of a tag, also of a tag in a repeating group."""
    standard = STANDARD.get(tag)
    if standard is not None or tag >> 16 & 1:  # The repeating groups are even.
        return standard
    return next((repeating for bits, mask, repeating in _REPEATING if tag & mask == bits), None)


def vr_of(tag: int) -> str:
    """Return the VR of a tag, which may be several (``US or SS``). Raises ``KeyError``."""
    attribute = entry(tag)
    if attribute is None:
        raise KeyError(tag)
    return attribute.vr


def tag_of(keyword: str) -> int | None:
    """Return the tag of a keyword, ``None`` for an unknown keyword."""
    return _TAGS.get(keyword)


def _read() -> tuple[dict[int, Entry], list[tuple[int, int, Entry]]]:
    standard, repeating = dict[int, Entry](), list[tuple[int, int, Entry]]()
    for line in Path(__file__).with_name("dictionary.tsv").read_text("utf-8").splitlines():
        tag, vr, keyword, retired = line.split("\t")
        attribute = Entry(vr, keyword, bool(retired))
        if "x" in tag:
            mask = int("".join("0" if digit == "x" else "f" for digit in tag), 16)
            repeating.append((int(tag.replace("x", "0"), 16), mask, attribute))
        else:
            standard[int(tag, 16)] = attribute
    return standard, repeating


STANDARD, _REPEATING = _read()
"""The entries without repeating groups, by tag."""
_TAGS = {attribute.keyword: tag for tag, attribute in STANDARD.items() if attribute.keyword}
