"""A large metadata row, rewritten in parts: no call of the JSON library takes long.

The library holds the interpreter from the first to the last byte of a document, in a thread, too,
and so does a regular expression. So what is larger than ``PART_BYTES`` is taken apart at its own
members or elements, some bytes at a time. What is smaller is read as a whole, and so are single
strings, which are read fast. The row comes out as ``rewrite_row`` makes it. It takes a while: call
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
"""Limit in bytes of an object or array read as a whole, where DICOM has nothing that large."""
STEP_BYTES = 65_536
"""Bytes that one call of a regular expression looks at."""
_SPACE = re.compile(rb"[ \t\r\n]*+")
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\r\n,:"{}\[\]]*+')
_TO_BRACKET = re.compile(rb'(?:[^{}\[\]"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)


class NotJson(ValueError):
    """Not JSON, or a name stands twice in one object."""


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value in ``text``, from ``start`` to before ``end``.

    ``damage`` has an entry for each damaged text that was read.
    """

    text: bytes
    start: int
    end: int
    damage: list[bool]

    @property
    def is_large(self) -> bool:
        """Whether it is to be taken apart."""
        return self.end - self.start > PART_BYTES

    @property
    def opens(self) -> bytes:
        """Its first byte."""
        return self.text[self.start : self.start + 1]

    def read(self) -> Any:
        """Return the value.

        Raises ``NotJson``, and ``TypeError`` for what is too large and no string.
        """
        if self.end - self.start > WHOLE_BYTES and self.opens != b'"':
            raise TypeError
        return self.read_text(self.text[self.start : self.end])

    def read_text(self, text: bytes) -> Any:
        """Return the value of a text made of this one's. Raises ``NotJson``."""
        try:
            value, is_damaged = read_json(text)
        except ValueError:
            raise NotJson from None
        if is_damaged:
            self.damage.append(True)
        return value

    def members(self) -> dict[str, "JsonValue"]:
        """Return the members of an object. Raises ``NotJson``."""
        found: dict[str, JsonValue] = {}
        for name, value in self._inside(b"}"):
            if name in found:
                raise NotJson
            found[name] = value
        return found

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
                # Damaged, it would name something else.
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

    def _behind(self, run: re.Pattern[bytes], at: int) -> int:
        """Return where a run of what the pattern takes ends; it may be empty."""
        while (found := run.match(self.text, at, at + STEP_BYTES)) and found.end() > at:
            at = found.end()
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
            if self.text[at] == 0x22:  # A string that did not end within one step.
                at = self._end_of_string(at)
            else:
                depth += 1 if self.text[at] in b"{[" else -1
                at += 1
                if depth == 0:
                    return at
            at = self._behind(_TO_BRACKET, at)
        raise NotJson


class LargeRow:
    """A row in ``text``; ``attributes`` are its small members, ``names`` those of all.

    Raises ``NotJson``, ``TooDeep``, and ``TypeError`` for what cannot be written.
    """

    def __init__(self, text: bytes) -> None:
        self.damage: list[bool] = []
        self._members = JsonValue(text, 0, len(text), self.damage).members()
        self.attributes = {
            name: value.read() for name, value in self._members.items() if not value.is_large
        }
        self.names = list(self._members)

    def written(self, root: str, uris: BulkDataUris | None) -> bytes:
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
        # No creator is that long; what it reserves is left out.
        long_creators = {block(name) for name in members if name not in read and is_creator(name)}
        notes = archive_notes(read) | long_creators
        written = []
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
                written.append(orjson.dumps(name) + b":" + value)
        return b"{" + b",".join(written) + b"}"

    def _large(self, name: str, part: JsonValue, depth: int) -> bytes | None:
        """Return a large attribute; ``None`` for what is none."""
        if part.opens != b"{":
            part.read()
            return None
        members = part.members()
        values = members.get("Value")
        apart = values is not None and values.is_large and values.opens == b"["
        element = {
            key: member.read()
            for key, member in members.items()
            if not (apart and member is values)
        }
        empty = rewrite_element(name, element, self.root, self.uris, depth)
        if apart and empty["vr"] == "UR":
            return orjson.dumps(rewrite_element(name, part.read(), self.root, self.uris, depth))
        if values is None or not apart or "BulkDataURI" in element:
            return orjson.dumps(empty)
        rewritten = list(self._values(values, empty["vr"] == "SQ", depth))
        if not rewritten:
            return orjson.dumps(empty)
        return b'{"vr":' + orjson.dumps(empty["vr"]) + b',"Value":[' + b",".join(rewritten) + b"]}"

    def _values(self, values: JsonValue, is_sequence: bool, depth: int) -> Iterator[bytes]:
        """Return the elements; small neighbours are read together."""
        begin = end = -1
        for one in values.elements():
            if begin >= 0 and (one.is_large or one.end - begin > PART_BYTES):
                yield self._few(values, begin, end, is_sequence, depth)
                begin = -1
            if one.is_large and is_sequence and one.opens == b"{":
                yield self.data_set(one.members(), depth + 1)
            elif one.is_large:
                yield orjson.dumps(
                    rewrite_value(one.read(), is_sequence, self.root, self.uris, depth)
                )
            else:
                begin, end = (one.start if begin < 0 else begin), one.end
        if begin >= 0:
            yield self._few(values, begin, end, is_sequence, depth)

    def _few(self, values: JsonValue, begin: int, end: int, is_sequence: bool, depth: int) -> bytes:
        found = values.read_text(b"[" + values.text[begin:end] + b"]")
        return orjson.dumps(
            [rewrite_value(one, is_sequence, self.root, self.uris, depth) for one in found]
        )[1:-1]
