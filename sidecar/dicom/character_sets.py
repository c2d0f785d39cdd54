"""Character sets of instances and of DICOM JSON rows (PS3.3 C.12.1.1.2, PS3.5 6.1, PS3.18 F.2).

JSON is UTF-8, but its texts went through the character set of an image and that of an archive
first. A text that cannot have come through whole is unknown: it is nobody's PatientID, and it does
not satisfy a rule.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sidecar.dicom.code_extensions import ASCII_TERMS, CODECS, decode
from sidecar.dicom.dictionary import entry
from sidecar.dicom.element import Unreadable
from sidecar.dicom.json_model import Row, tag, texts, values_of

SPECIFIC_CHARACTER_SET = tag("SpecificCharacterSet")
REPLACEMENT = "\ufffd"
"""The character that stands for what could not be read."""

# The replacement character, escape sequences that were not decoded, and control characters. Those
# from 0x80 to 0x9F are UTF-8 that was read as Latin-1. Tab, line feed, form feed and carriage
# return may stand in a text (PS3.5 6.1.3).
_NOT_TEXT = re.compile("[\ufffd\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_SEPARATORS = re.compile("[ _-]+")
_UTF_8 = "ISO IR 192"
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Value representations that use the specific character set (PS3.5 6.1.2.2)."""


def is_known_text(text: str) -> bool:
    """Return whether ``text`` has no sign of having been decoded in a wrong character set."""
    return _NOT_TEXT.search(text) is None


def decode_text(value: bytes, character_set: bytes) -> str:
    """Return a text value, decoded by its instance's SpecificCharacterSet (PS3.5 6.1).

    Raises ``Unreadable`` for what cannot be decoded, and for a value that is not ASCII where no
    character set is named.
    """
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii").strip(" \0")
    names = [name.strip(" \0") for name in character_set.decode("ascii", "replace").split("\\")]
    if not set(names) <= CODECS.keys() or set(names) <= ASCII_TERMS:
        raise Unreadable("character_set")
    try:
        text = decode(value, names).strip(" \0")
    except ValueError:
        raise Unreadable("character_set") from None
    if not is_known_text(text):
        raise Unreadable("character_set")
    return text


def has_known_character_set(row: Row) -> bool:
    """Return whether DICOM defines each character set that the row names; it may name none."""
    return SPECIFIC_CHARACTER_SET not in row or _are_defined(
        tuple(texts(row, "SpecificCharacterSet"))
    )


def is_utf8(row: Row) -> bool:
    """Return whether the row names UTF-8, which has all characters, and nothing else."""
    terms = texts(row, "SpecificCharacterSet")
    return len(terms) == 1 and _normalized(terms[0]) == _UTF_8


def with_known_texts(row: Row) -> Row:
    """Return the row without its unknown texts. Sequences stay as they are."""
    if not has_known_character_set(row):
        return without_texts(row)
    unknown = {
        name
        for name, element in row.items()
        if _is_text(name) and not all(map(is_known_text, _texts(element)))
    }
    return (
        {name: element for name, element in row.items() if name not in unknown} if unknown else row
    )


def without_texts(row: Row) -> Row:
    """Return the row without what depends on a character set. Sequences stay as they are."""
    return {name: element for name, element in row.items() if not _is_text(name)}


def with_unknown_texts(row: Row) -> Row:
    """Return the row with the replacement character for each text that is not ASCII.

    The row's character set is unknown.
    """
    unknown = {
        name
        for name, element in row.items()
        if _is_text(name) and not all(map(str.isascii, _texts(element)))
    }
    return {
        name: {**element, "Value": [REPLACEMENT]} if name in unknown else element
        for name, element in row.items()
    }


def _texts(element: Any) -> list[str]:
    """Return an attribute's texts without padding. The texts of a person's name are its groups."""
    groups = [
        group
        for value in values_of(element)
        for group in (value.values() if isinstance(value, Mapping) else (value,))
    ]
    return [group.strip(" \0") for group in groups if isinstance(group, str)]


@lru_cache(4_096)
def _is_text(name: str) -> bool:
    try:
        attribute = entry(int(name, 16))
    except ValueError:
        return True
    # The VR of a private attribute is unknown.
    return attribute is None or attribute.vr in _TEXT_VRS


@lru_cache(256)
def _are_defined(terms: tuple[str, ...]) -> bool:
    return all(_normalized(term) in _DEFINED for term in terms)


def _normalized(term: str) -> str:
    """Return a defined term with spaces as separators: ``ISO-IR 100`` is a common mistake."""
    return _SEPARATORS.sub(" ", term.strip().upper())


_DEFINED = frozenset(_normalized(term) for term in CODECS)
