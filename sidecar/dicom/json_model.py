"""Reading the DICOM JSON Model (PS3.18 Annex F) without trusting its shape.

A row is ``{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, ...}``. Each reader returns nothing for an
attribute that is missing, empty, null or of another type, and reads the others.
"""

import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import accumulate
from struct import Struct
from types import MappingProxyType
from typing import Any

import orjson

from sidecar.dicom.dictionary import tag_of

Row = Mapping[str, Any]

_TAG = re.compile(r"[0-9A-F]{8}", re.ASCII)
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_WHOLE_NUMBER = re.compile(r"\+?([0-9]{1,12})(?:\.0+)?", re.ASCII)


_END = Struct("I")
_ROW_OVERHEAD = 150
"""Size in bytes of the three objects of a ``CompactRow``, without their content."""


class CompactRow(Mapping[str, Any]):
    """A row that holds its attributes as JSON text and reads each when it is needed.

    A list of 20,000 rows as dictionaries is half a million containers. The garbage collector goes
    through all of them now and then, and to free them takes as long, while all requests wait. A
    compact row is three objects, and takes a fraction of the memory.
    """

    __slots__ = ("_ends", "_places", "_text")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._store({name: orjson.dumps(element) for name, element in row.items()})

    def _store(self, json_texts: Mapping[str, bytes]) -> None:
        self._places = _places(tuple(json_texts))
        self._ends = array("I", accumulate(map(len, json_texts.values()))).tobytes()
        self._text = b"".join(json_texts.values())

    def _json_text(self, name: str) -> bytes:
        place = self._places[name]
        (start,) = _END.unpack_from(self._ends, _END.size * (place - 1)) if place else (0,)
        (end,) = _END.unpack_from(self._ends, _END.size * place)
        return self._text[start:end]

    @property
    def size(self) -> int:
        """Approximate number of bytes of memory."""
        return _ROW_OVERHEAD + len(self._ends) + len(self._text)

    def sorted_text(self, *, without: frozenset[str]) -> bytes:
        """Return the row as text in the order of its names, without some of them."""
        head, names = _sorted(tuple(self._places), without)
        return b"".join([head, *map(self._json_text, names)])

    def changed(self, names: Collection[str], added: Mapping[str, Any]) -> "CompactRow":
        """Return the row without the attributes ``names`` and with those in ``added``."""
        json_texts = {name: self._json_text(name) for name in self if name not in names}
        row = CompactRow({})
        row._store(json_texts | {name: orjson.dumps(element) for name, element in added.items()})
        return row

    def __getitem__(self, name: str) -> Any:
        return orjson.loads(self._json_text(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute as it was written, or ``default``."""
        # The one of ``Mapping`` raises and catches ``KeyError`` where an attribute is missing.
        return orjson.loads(self._json_text(name)) if name in self._places else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __eq__(self, other: object) -> bool:
        if (
            isinstance(other, CompactRow)
            and self._places is other._places
            and self._text == other._text
        ):
            return self._ends == other._ends or super().__eq__(other)
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


@lru_cache(1_000)
def _places(names: tuple[str, ...]) -> Mapping[str, int]:
    """Return the index of each of these attributes. Rows with the same attributes share it."""
    return {name: place for place, name in enumerate(names)}


@lru_cache(1_000)
def _sorted(names: tuple[str, ...], without: frozenset[str]) -> tuple[bytes, tuple[str, ...]]:
    left = sorted(name for name in names if name not in without)
    return orjson.dumps(left), tuple(left)


def changed(
    row: Row, names: Collection[str], added: Mapping[str, Any] = MappingProxyType({})
) -> Row:
    """Return the row without the attributes ``names`` and with those in ``added`` (by tag)."""
    if isinstance(row, CompactRow):
        return row.changed(names, added)
    return {name: element for name, element in row.items() if name not in names} | dict(added)


@cache
def tag(keyword: str) -> str:
    """Return the hexadecimal digits of a keyword: ``PatientID`` -> ``00100020``.

    Raises ``KeyError``.
    """
    number = tag_of(keyword)
    if number is None:
        raise KeyError(keyword)
    return f"{number:08X}"


def tags(*keywords: str) -> frozenset[str]:
    """Return the tags of these keywords. Raises ``KeyError``."""
    return frozenset(map(tag, keywords))


def with_tags(row: Mapping[str, Any]) -> Row:
    """Return the row with its attributes named by tag, upper case.

    Some archives write lower case, or keywords. Raises ``ValueError`` when two names are the same
    attribute: another reader might take either.
    """
    if _are_tags(tuple(row)):
        return row
    by_tag: dict[str, Any] = {}
    for name, element in row.items():
        tag_digits = _tag_of(name)
        if tag_digits in by_tag:
            raise ValueError("an attribute that stands twice")
        by_tag[tag_digits] = element
    return by_tag


@lru_cache(1_000)
def _are_tags(names: tuple[str, ...]) -> bool:
    return all(map(_TAG.fullmatch, names))


def _tag_of(name: str) -> str:
    if _TAG.fullmatch(name.upper()):
        return name.upper()
    number = tag_of(name)
    return name if number is None else f"{number:08X}"


def values(row: Row, keyword: str) -> list[Any]:
    """Return the values of an attribute that are not null; ``[]`` when it is missing or empty."""
    return [value for value in values_of(row.get(tag(keyword))) if value is not None]


def values_of(element: object) -> Sequence[Any]:
    """Return all values of an element, null ones too; none when it is missing or odd."""
    # Nearly all are dicts, and to ask an abstract class takes several times as long.
    is_object = type(element) is dict or isinstance(element, Mapping)
    values = element.get("Value") if is_object else None  # type: ignore[attr-defined]
    return values if isinstance(values, list) else ()


def texts(row: Row, keyword: str) -> list[str]:
    """Return all texts and numbers of an attribute as text, without padding (PS3.5 6.2)."""
    found = map(_text, values_of(row.get(tag(keyword))))
    return [text for text in found if text]


def text(row: Row, keyword: str) -> str | None:
    """Return the first value as text, or ``None``."""
    return first_text(values_of(row.get(tag(keyword))))


def first_text(found: Iterable[Any]) -> str | None:
    """Return the first of an attribute's values as text, or ``None``."""
    for value in found:
        if text := _text(value):
            return text
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip(" \0")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else None


def number(row: Row, keyword: str) -> int | None:
    """Return the first value as a whole number that is not negative, or ``None``.

    PACSs write IS as text or as number.
    """
    # JSON has one kind of number: 5.0 is 5.
    match = _WHOLE_NUMBER.fullmatch(text(row, keyword) or "")
    return int(match[1]) if match and int(match[1]) <= 2**31 - 1 else None


def sequence(row: Row, keyword: str) -> list[Row]:
    """Return the items of a sequence (VR SQ) that are objects."""
    return [item for item in values(row, keyword) if isinstance(item, Mapping)]


def person_name_groups(row: Row, keyword: str) -> dict[str, str]:
    """Return the groups of the first person name that has any.

    Their order is ``Alphabetic``, ``Ideographic``, ``Phonetic``.
    """
    for value in values(row, keyword):
        groups = value
        if isinstance(value, str):  # Some archives write the groups as one text (PS3.5 6.2.1.2).
            groups = dict(zip(_NAME_GROUPS, value.split("="), strict=False))
        if not isinstance(groups, Mapping):
            continue
        names = {
            group: name.strip()
            for group in _NAME_GROUPS
            if isinstance(name := groups.get(group), str) and name.strip(" ^")
        }
        if names:
            return names
    return {}
