"""A JSON array of objects that comes in pieces, taken apart into its objects.

Memory and depth are bounded. A parser that builds as it reads can be made to need memory by
nesting. Here the regular expression engine looks at braces and strings; whether an object is JSON
is for the real parser, once it is whole.
"""

import re

MAXIMUM_DEPTH = 200
"""Limit of objects in objects."""
MAXIMUM_OBJECTS = 500_000
"""Limit in one row, roughly: each costs time, however short it is."""
_PIECE_BYTES = 2_048  # So much is copied at once: what belongs to the next rows is copied again.

# To the end of a string; up to the next brace, over whole strings and over whole objects that hold
# none.
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_PLAIN = re.compile(
    rb'(?:[^{}"]++|"(?:[^"\\]++|\\.)*+"|\{(?:[^{}"]++|"(?:[^"\\]++|\\.)*+")*+\})*+', re.DOTALL
)
_MARK = b"\xef\xbb\xbf"
"""The byte order mark, which some write before UTF-8 (RFC 8259 8.1 lets a reader ignore it)."""
_SPACE = re.compile(rb"[ \t\r\n]++")


class NotRows(ValueError):
    """Not an array of objects, or one that is too large or too deep.

    ``args[0]`` is a constant for the reason.
    """


class JsonRowScanner:
    """Splits a JSON array into its objects, as JSON text; ``row_bytes`` is the limit of one."""

    def __init__(self, *, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._mark = _MARK  # What of it may still come.
        # What may come between objects; "" inside of one, "end" behind the array.
        self._expects = b"["
        self._row = bytearray()
        self._depth = 0
        self._objects = 0
        self._in_string = False
        self._scanned = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the objects that have come whole. Raises ``NotRows``."""
        found: list[bytes] = []
        position = 0
        while position < len(chunk):
            if self._depth:
                position = self._inside(chunk, position, found)
            else:
                position = self._between(chunk, position)
        return found

    @property
    def is_closed(self) -> bool:
        """Whether the array has ended."""
        return self._expects == b"end"

    def end(self) -> None:
        """Raise ``NotRows`` unless the array came whole."""
        if self._expects != b"end" or self._depth:
            raise NotRows("truncated")

    def _between(self, chunk: bytes, position: int) -> int:
        if space := _SPACE.match(chunk, position):
            return space.end()
        character = chunk[position : position + 1]
        if self._expects == b"[" and self._mark and self._mark.startswith(character):
            self._mark = self._mark[1:]
            return position + 1
        if (
            self._expects == b"end"
            or character not in self._expects
            or self._mark not in (_MARK, b"")
        ):
            raise NotRows("metadata_wrong_shape")
        if character == b"{":
            self._depth = self._objects = 1
            self._row += b"{"
            self._scanned = 1
        else:
            self._expects = {b"[": b"{]", b",": b"{", b"]": b"end"}[character]
        return position + 1

    def _inside(self, chunk: bytes, position: int, found: list[bytes]) -> int:
        """Take bytes of an object until it or the chunk ends."""
        piece = chunk[position : position + _PIECE_BYTES]
        taken_from = len(self._row)
        self._row += piece
        self._objects += piece.count(b"{")
        end = self._scan()
        if end is None:
            if len(self._row) > self._row_bytes or self._objects > MAXIMUM_OBJECTS:
                raise NotRows("metadata_row_too_large")
            return position + len(piece)
        row = bytes(self._row[:end])
        if len(row) > self._row_bytes:
            raise NotRows("metadata_row_too_large")
        found.append(row)
        self._row.clear()
        self._expects = b",]"
        return position + end - taken_from

    def _scan(self) -> int | None:
        """Return where the object ends, ``None`` when that has not come yet."""
        row, at = self._row, self._scanned
        while True:
            if self._in_string:
                match = _STRING.match(row, at)
                at = match.end() if match else at
                # A backslash at the very end waits for what it escapes.
                if at >= len(row) or row[at] != 0x22:
                    self._scanned = at
                    return None
                self._in_string = False
                at += 1
            match = _PLAIN.match(row, at)
            at = match.end() if match else at
            if at >= len(row):
                self._scanned = at
                return None
            character = row[at]
            at += 1
            if character == 0x22:  # One that does not end here.
                self._in_string = True
                continue
            self._depth += 1 if character == 0x7B else -1
            if self._depth > MAXIMUM_DEPTH:
                raise NotRows("metadata_too_deep")
            if self._depth == 0:
                self._scanned = 0
                return at
