"""Reading the DICOM JSON Model (PS3.18 Annex F) without trusting its shape.

A row is ``{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, ...}``. Each reader returns nothing for an
attribute that is missing, empty, null or of another type, and reads the others.
"""

import re
from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

import orjson

from sidecar.dicom.dictionary import tag_of

Row = Mapping[str, Any]

_TAG = re.compile(r"[0-9A-F]{8}", re.ASCII)
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_WHOLE_NUMBER = re.compile(r"\+?([0-9]{1,12})(?:\.0+)?", re.ASCII)


_ROW_OVERHEAD = 48 + 33
"""Size in bytes of the two objects of a ``CompactRow``, without their content."""


class CompactRow(Mapping[str, Any]):
    """A row that holds its attributes as JSON text and reads each when it is needed.

    A list of 20,000 rows as dictionaries is half a million containers. The garbage collector goes
    through all of them now and then, and to free them takes as long, while all requests wait. A
    compact row is one object with its text, and takes a fraction of the memory.

    ``json_text``: for each attribute NUL, the name, another control character and the element, and
    NUL at the end. JSON itself has no control characters.
    """

    __slots__ = ("json_text",)

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.json_text = _joined(_mark(name) + orjson.dumps(row[name]) for name in row)

    @classmethod
    def of(cls, json_text: bytes) -> "CompactRow":
        """Return the row with this text."""
        row = cls.__new__(cls)
        row.json_text = json_text
        return row

    def _attributes(self, *, without: Collection[str]) -> list[bytes]:
        """Return the other attributes as text, each behind its mark."""
        marks = tuple(map(_mark, without))
        found = (b"\0" + attribute for attribute in self.json_text.split(b"\0")[1:-1])
        return [attribute for attribute in found if not attribute.startswith(marks)]

    @property
    def size(self) -> int:
        """Approximate number of bytes of memory."""
        return _ROW_OVERHEAD + len(self.json_text)

    def sorted_text(self, *, without: frozenset[str]) -> bytes:
        """Return the row as text in the order of its names, without some of them."""
        return b"".join(sorted(self._attributes(without=without)))

    def changed(self, names: Collection[str], added: Mapping[str, Any]) -> "CompactRow":
        """Return the row without the attributes ``names`` and with those in ``added``."""
        new = [_mark(name) + orjson.dumps(element) for name, element in added.items()]
        return self.of(_joined(self._attributes(without={*names, *added}) + new))

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self.get(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute as it was written, or ``default``."""
        json_text, mark = self.json_text, _mark(name)
        at = json_text.find(mark)
        if at < 0:
            return default
        at += len(mark)
        return orjson.loads(json_text[at : json_text.find(b"\0", at)])

    def items(self) -> ItemsView[str, Any]:
        """Return all names and attributes, read at once."""
        json_text = self.json_text[1:-1].replace(b"\0", b",").replace(b"\1", b":")
        found: dict[str, Any] = orjson.loads(b"{%b}" % json_text)
        return found.items()

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return self.json_text.count(b"\0") - 1

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _mark(name) in self.json_text

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CompactRow) and self.json_text == other.json_text:
            return True
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


Packed = tuple[Row | bytes, ...]
"""What is kept of rows: the text of each. The garbage collector does not go through it."""


def packed(rows: Iterable[Row]) -> Packed:
    """Return what ``PackedRows`` makes these rows of."""
    if type(rows) is PackedRows:
        return rows.packed
    # Rows that are no text are nested too deep; there are few of them.
    return tuple([row.json_text if type(row) is CompactRow else row for row in rows])


class PackedRows(Sequence[Row]):
    """Rows that are made anew whenever they are looked at."""

    __slots__ = ("packed",)

    def __init__(self, packed: Packed) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed)

    def __iter__(self) -> Iterator[Row]:
        return (CompactRow.of(row) if isinstance(row, bytes) else row for row in self.packed)

    def __getitem__(self, place: Any) -> Any:
        return list(self)[place]


class RowsByUid(Mapping[str, Sequence[Row]]):
    """UID -> rows, of what is kept of them."""

    def __init__(self, kept: Mapping[str, Packed]) -> None:
        self._packed = kept

    def __getitem__(self, uid: str) -> PackedRows:
        return PackedRows(self._packed[uid])

    def get(self, uid: str, default: Any = None) -> Any:
        """Return the rows of a UID, or ``default``."""
        return PackedRows(self._packed[uid]) if uid in self._packed else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _joined(attributes: Iterable[bytes]) -> bytes:
    return b"".join([*attributes, b"\0"])


@lru_cache(1_000)
def _mark(name: str) -> bytes:
    """Return what stands in a compact row before the attribute of this name, and nowhere else."""
    return b"\0%b\1" % orjson.dumps(name)


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
