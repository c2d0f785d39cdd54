"""A large metadata row, rewritten in parts: no call of the JSON library takes long.

The library holds the interpreter from the first to the last byte of a document, in a thread, too,
and so does a regular expression. So a value larger than ``PART_BYTES`` is split into its own
members or elements, some bytes at a time. A smaller value is read as a whole, and so is a single
string, which is read fast. The row comes out as ``rewrite_row`` makes it. This takes a while: call
it in a thread.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from sidecar.dicomweb.bulkdata_uris import BulkDataUris
from sidecar.dicomweb.json_rows import read_json
from sidecar.dicomweb.rewrite import (
    MAXIMUM_DEPTH,
    TooDeep,
    archive_notes,
    block,
    is_creator,
    rewrite_element,
    rewrite_value,
)

PART_BYTES = 65_536
WHOLE_BYTES = 8 * PART_BYTES
"""Limit in bytes of an object or array read as a whole, where DICOM has no value so large."""
STEP_BYTES = 65_536
"""Limit in bytes of the input of a call of a regular expression."""
_SPACE = re.compile(rb"[ \t\r\n]*+")
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\r\n,:"{}\[\]]*+')
_TO_BRACKET = re.compile(rb'(?:[^{}\[\]"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)


class NotJson(ValueError):
    """A text is not JSON, or a name stands twice in an object."""


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value in ``text``, from ``start`` to before ``end``.

    ``damage`` gets an entry for each damaged text that is read.
    """

    text: bytes
    start: int
    end: int
    damage: list[bool]

    @property
    def is_large(self) -> bool:
        """Whether the value is to be read in parts."""
        return self.end - self.start > PART_BYTES

    @property
    def opens(self) -> bytes:
        """The first byte of the value."""
        return self.text[self.start : self.start + 1]

    def read(self) -> Any:
        """Return the value.

        Raises ``NotJson``, and ``TypeError`` for an object or array that is too large.
        """
        if self.end - self.start > WHOLE_BYTES and self.opens != b'"':
            raise TypeError
        return self.read_text(self.text[self.start : self.end])

    def read_text(self, text: bytes) -> Any:
        """Return the value of a text that was made of this value's text. Raises ``NotJson``."""
        try:
            value, is_damaged = read_json(text)
        except ValueError:
            raise NotJson from None
        if is_damaged:
            self.damage.append(True)
        return value

    def members(self) -> dict[str, "JsonValue"]:
        """Return the members of an object. Raises ``NotJson``."""
        members: dict[str, JsonValue] = {}
        for name, value in self._inside(b"}"):
            if name in members:
                raise NotJson
            members[name] = value
        return members

    def elements(self) -> Iterator["JsonValue"]:
        """Return the elements of an array. Raises ``NotJson``."""
        return (value for _, value in self._inside(b"]"))

    def _inside(self, closing: bytes) -> Iterator[tuple[str, "JsonValue"]]:
        text, at = self.text, self._behind_space(self.start + 1)
        if text[at : at + 1] == closing:
            return
        while True:
            name = ""
            if closing == b"}":
                end = self._end_of_string(at)
                # A damaged name would be the name of another member.
                name = self.read_text(b"{%s:0}" % text[at:end]).popitem()[0]
                at = self._behind_space(end)
                if text[at : at + 1] != b":":
                    raise NotJson
                at = self._behind_space(at + 1)
            value = JsonValue(text, at, self._end_of_value(at), self.damage)
            yield name, value
            at = self._behind_space(value.end)
            if text[at : at + 1] == closing and at < self.end:
                return
            if text[at : at + 1] != b",":
                raise NotJson
            at = self._behind_space(at + 1)

    def _behind(self, pattern: re.Pattern[bytes], at: int) -> int:
        """Return the end of the longest match of a pattern, which may be empty."""
        while (match := pattern.match(self.text, at, at + STEP_BYTES)) and match.end() > at:
            at = match.end()
        return at

    def _behind_space(self, at: int) -> int:
        return self._behind(_SPACE, at)

    def _end_of_string(self, at: int) -> int:
        end = self._behind(_IN_STRING, at + 1)
        if self.text[at : at + 1] != b'"' or self.text[end : end + 1] != b'"':
            raise NotJson
        return end + 1

    def _end_of_value(self, at: int) -> int:
        first = self.text[at : at + 1]
        if first == b'"':
            return self._end_of_string(at)
        if first not in (b"{", b"["):
            end = self._behind(_SCALAR, at)
            if end == at:
                raise NotJson
            return end
        depth = 0
        while at < len(self.text):
            if self.text[at] == 0x22:  # A string that did not end within a step.
                at = self._end_of_string(at)
            else:
                depth += 1 if self.text[at] in b"{[" else -1
                at += 1
                if depth == 0:
                    return at
            at = self._behind(_TO_BRACKET, at)
        raise NotJson


class LargeRow:
    """A row in ``text``. ``attributes`` are its small members, ``names`` the names of all.

    Raises ``NotJson``, ``TooDeep``, and ``TypeError`` for a value that cannot be written.
    """

    def __init__(self, text: bytes) -> None:
        self.damage: list[bool] = []
        self._members = JsonValue(text, 0, len(text), self.damage).members()
        self.attributes = {
            name: value.read() for name, value in self._members.items() if not value.is_large
        }
        self.names = list(self._members)

    def rewritten(self, root: str, uris: BulkDataUris | None) -> bytes:
        """Return the row as ours, with attributes named in capital letters."""
        members = {
            name.upper(): value for name, value in self._members.items() if _TAG.fullmatch(name)
        }
        return _Writer(root, uris).data_set(members, 0)


_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Writer:
    root: str
    uris: BulkDataUris | None

    def data_set(self, members: dict[str, JsonValue], depth: int) -> bytes:
        if depth > MAXIMUM_DEPTH:
            raise TooDeep
        read = {name: part.read() for name, part in members.items() if not part.is_large}
        # No private creator is so long. The block that it reserves is left out.
        long_creators = {block(name) for name in members if name not in read and is_creator(name)}
        notes = archive_notes(read) | long_creators
        rewritten = []
        for name, part in members.items():
            if notes and block(name) in notes:
                continue
            if name not in read:
                value = self._large(name, part, depth)
            elif isinstance(read[name], dict):
                value = orjson.dumps(rewrite_element(name, read[name], self.root, self.uris, depth))
            else:
                value = None
            if value is not None:
                rewritten.append(orjson.dumps(name) + b":" + value)
        return b"{" + b",".join(rewritten) + b"}"

    def _large(self, name: str, part: JsonValue, depth: int) -> bytes | None:
        """Return a large attribute; ``None`` for a member that is no attribute."""
        if part.opens != b"{":
            part.read()
            return None
        members = part.members()
        values = members.get("Value")
        in_parts = values is not None and values.is_large and values.opens == b"["
        element = {
            key: member.read()
            for key, member in members.items()
            if not (in_parts and member is values)
        }
        rewritten = rewrite_element(name, element, self.root, self.uris, depth)
        if in_parts and rewritten["vr"] == "UR":
            return orjson.dumps(rewrite_element(name, part.read(), self.root, self.uris, depth))
        if values is None or not in_parts or "BulkDataURI" in element:
            return orjson.dumps(rewritten)
        pieces = list(self._values(values, rewritten["vr"] == "SQ", depth))
        if not pieces:
            return orjson.dumps(rewritten)
        return b'{"vr":' + orjson.dumps(rewritten["vr"]) + b',"Value":[' + b",".join(pieces) + b"]}"

    def _values(self, values: JsonValue, is_sequence: bool, depth: int) -> Iterator[bytes]:
        """Return the rewritten values of an array. Small neighbours are read together."""
        begin = end = -1
        for value in values.elements():
            if begin >= 0 and (value.is_large or value.end - begin > PART_BYTES):
                yield self._small_values(values, begin, end, is_sequence, depth)
                begin = -1
            if value.is_large and is_sequence and value.opens == b"{":
                yield self.data_set(value.members(), depth + 1)
            elif value.is_large:
                yield orjson.dumps(
                    rewrite_value(value.read(), is_sequence, self.root, self.uris, depth)
                )
            else:
                begin, end = (value.start if begin < 0 else begin), value.end
        if begin >= 0:
            yield self._small_values(values, begin, end, is_sequence, depth)

    def _small_values(
        self, array: JsonValue, begin: int, end: int, is_sequence: bool, depth: int
    ) -> bytes:
        values = array.read_text(b"[" + array.text[begin:end] + b"]")
        return orjson.dumps(
            [rewrite_value(value, is_sequence, self.root, self.uris, depth) for value in values]
        )[1:-1]
