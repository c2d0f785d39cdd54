"""A multipart/related body as it goes by (RFC 2046 5.1; PS3.18 8.6), in any split: checked part by part, passed on.

Sans I/O: bytes in, the bytes that may leave out. No byte of a part leaves before the part's header has been looked at
and, for instances, before it is known whose they are. What is passed on is what came, but for part headers that would
tell the archive's address. Memory is bounded by the head of one part.
"""

from collections.abc import Callable
from typing import Protocol

from sidecar.pacs.header import HeaderReader, InstanceHeader

HEADERS_LIMIT_BYTES = 16_384
"""Of one part's header lines."""
OUTSIDE_LIMIT_BYTES = 1_024
"""White space before the first delimiter, or after the last one."""
_LOOK_BYTES = 16_384

# A part's header lines that pass. Others tell of the archive and are of no use to a DICOMweb client.
_PASSING = frozenset({
    b"content-type", b"content-length", b"content-location", b"content-id", b"content-transfer-encoding",
    b"content-description", b"mime-version",
})  # fmt: skip


class Malformed(ValueError):
    """The body is not what its head said, or not whole: ``reason`` is a constant for logs."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Scanner(Protocol):
    """Takes a body chunk by chunk. ``keeps_length``: as many bytes go out as come in."""

    keeps_length: bool

    def feed(self, chunk: bytes) -> bytes | memoryview:
        """Return what may be passed on now. Raises ``Malformed``, ``Unreadable``, and what the check raises."""

    def end(self) -> bytes:
        """The body has ended: return what is left. Raises ``Malformed`` or ``Unreadable`` when it is not whole."""


Check = Callable[[InstanceHeader], None]
"""Raises when the instance is not the permitted one."""


class PartRules(Protocol):
    """What is known of good parts."""

    def accepts(self, content_type: str) -> bool:
        """Whether a part may have this media type."""

    def location(self, url: str) -> str | None:
        """Our own URL for a Content-Location of the PACS; ``None``: leave the line out."""


class Untouched:
    """A single body whose length tells whether it is whole: passed on as it comes."""

    keeps_length = True

    def feed(self, chunk: bytes) -> bytes:
        """Return the chunk."""
        return chunk

    def end(self) -> bytes:
        """Return nothing: its length was checked where it was read."""
        return b""


class SingleInstance:
    """A single ``application/dicom`` body: held until ``check`` has seen its header."""

    keeps_length = True

    def __init__(self, check: Check) -> None:
        self._check = check
        self._reader = HeaderReader()
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be passed on."""
        was_known = self._reader.header is not None
        header = self._reader.feed(chunk)
        if was_known:
            return chunk
        self._held += chunk
        return b"" if header is None else self._release(header)

    def end(self) -> bytes:
        """Return an instance that ended with its header. Raises ``Unreadable`` when it ended before."""
        return b"" if self._reader.header is not None else self._release(self._reader.end())

    def _release(self, header: InstanceHeader) -> bytes:
        self._check(header)
        held, self._held = self._held, b""
        return held


class Multipart:
    """A multipart body with ``boundary``; ``check`` is told of each instance, ``None`` when parts are no instances."""

    keeps_length = False

    def __init__(self, boundary: str, rules: PartRules, check: Check | None) -> None:
        self._rules = rules
        self._check = check
        self._first = b"--" + boundary.encode("ascii")
        self._delimiter = b"\r\n" + self._first
        self._held = b""
        self._state = self._before_first
        self._out: list[bytes | memoryview] = []
        self._outside = 0
        # Of this call of ``feed``: whether what leaves is the beginning of the data, and whether the header lines of
        # the part under way are among the data.
        self._unchanged = True
        self._lines_are_here = False
        # Of the part under way: bytes left (None: until the delimiter), its header lines, its reader, and how many of
        # the bytes that have not left yet the reader has seen.
        self._remaining: int | None = None
        self._lines = b""
        self._reader: HeaderReader | None = None
        self._seen = 0
        self.parts = 0

    def feed(self, chunk: bytes) -> bytes | memoryview:
        """Return what may be passed on."""
        data = self._held + chunk if self._held else chunk
        position = 0
        self._unchanged, self._lines_are_here = True, False
        while (after := self._state(data, position)) is not None:
            position = after
        out, self._out = self._out, []
        if not self._unchanged:
            return b"".join(out)
        # The usual case: what leaves is the beginning of what came. Nothing is copied.
        size = sum(map(len, out))
        return data if size == len(data) else memoryview(data)[:size]

    def end(self) -> bytes:
        """Return nothing. Raises ``Malformed`` unless the closing delimiter came, behind a part at least."""
        if self._state != self._after_last:
            raise Malformed("truncated")
        if not self.parts:
            raise Malformed("empty")
        return b""

    # Each state takes the data and where it goes on; it returns where the next state goes on, or None after it has put
    # what must wait for more data into _held.

    def _around(self, data: bytes) -> None:
        """Release what is not a part's content."""
        self._out.append(data)

    def _hold(self, data: bytes, position: int) -> None:
        self._held = data[position:] if position else data

    def _before_first(self, data: bytes, position: int) -> int | None:
        start = data.find(self._first, position)
        if start < 0:
            if len(data) - position > OUTSIDE_LIMIT_BYTES or not self._may_begin(data[position:]):
                raise Malformed("preamble")
            self._hold(data, position)
            return None
        if data[position:start].strip():
            raise Malformed("preamble")
        end = start + len(self._first)
        self._around(data[position:end])
        self._state = self._behind_delimiter
        return end

    def _may_begin(self, data: bytes) -> bool:
        """Whether this is white space and perhaps the beginning of the first delimiter."""
        return self._first.startswith(data.lstrip())

    def _behind_delimiter(self, data: bytes, position: int) -> int | None:
        if data.startswith(b"--", position):
            self._around(b"--")
            self._state = self._after_last
            return position + 2
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            if len(data) - position > OUTSIDE_LIMIT_BYTES:
                raise Malformed("delimiter")
            self._hold(data, position)
            return None
        if data[position:line_end].strip(b" \t"):
            raise Malformed("delimiter")
        self._around(data[position : line_end + 2])
        self._state = self._in_headers
        return line_end + 2

    def _in_headers(self, data: bytes, position: int) -> int | None:
        if data.startswith(b"\r\n", position):
            end, body = position, position + 2
        else:
            end = data.find(b"\r\n\r\n", position)
            body = end + 4
            if (len(data) if end < 0 else end) - position > HEADERS_LIMIT_BYTES:
                raise Malformed("part_headers")
            if end < 0:
                self._hold(data, position)
                return None
        self._begin_part(data[position:end])
        return body

    def _begin_part(self, lines: bytes) -> None:
        kept, length = _read_headers(lines, self._rules)
        self._remaining = length
        self._lines = kept + b"\r\n\r\n" if kept else b"\r\n"
        self._lines_are_here = kept == lines
        self.parts += 1
        if self._check is None:
            self._release_lines()
            self._state = self._in_body
        else:
            self._reader, self._seen = HeaderReader(), 0
            self._state = self._in_instance_header

    def _in_instance_header(self, data: bytes, position: int) -> int | None:
        """Nothing of the part, not even its header lines, leaves before the check has passed."""
        assert self._reader is not None  # noqa: S101
        assert self._check is not None  # noqa: S101
        header, reach = None, 0
        while header is None:
            begin = position + self._seen
            if begin == len(data) and reach:
                self._hold(data, position)
                return None
            # A delimiter may begin in the look and end behind it.
            reach = min(len(data), begin + _LOOK_BYTES)
            end, complete = self._part_end(data, position, min(len(data), reach + len(self._delimiter)))
            stop = min(end, reach)
            header = self._reader.feed(memoryview(data)[begin:stop])
            self._seen = stop - position
            if header is None and complete and stop == end:
                header = self._reader.end()
        self._check(header)
        self._release_lines()
        self._state = self._in_body
        return position

    def _release_lines(self) -> None:
        self._around(self._lines)
        if not self._lines_are_here:
            self._unchanged = False

    def _part_end(self, data: bytes, position: int, limit: int) -> tuple[int, bool]:
        """How far the part's bytes go in ``data`` up to ``limit``, and whether that is all of it."""
        if self._remaining is not None:
            end = position + self._remaining
            return min(end, limit), end <= limit
        end = data.find(self._delimiter, position, limit)
        return (limit, False) if end < 0 else (end, True)

    def _in_body(self, data: bytes, position: int) -> int | None:
        end, complete = self._part_end(data, position, len(data))
        if not complete and self._remaining is None:
            end = self._safe_end(data, position)
        if self._remaining is not None:
            self._remaining -= end - position
        if self._reader is not None:  # It sees to it that no other patient's number comes behind the header.
            ahead = min(self._seen, end - position)
            self._seen -= ahead
            self._reader.feed(memoryview(data)[position + ahead : end])
        if end > position:
            self._out.append(memoryview(data)[position:end] if position or end < len(data) else data)
        if not complete:
            self._hold(data, end)
            return None
        self._state = self._at_delimiter
        return end

    def _safe_end(self, data: bytes, position: int) -> int:
        """Up to where no delimiter can begin that goes on in the next chunk."""
        begin = data.rfind(b"\r", max(position, len(data) - len(self._delimiter) + 1))
        return begin if begin >= 0 and self._delimiter.startswith(data[begin:]) else len(data)

    def _at_delimiter(self, data: bytes, position: int) -> int | None:
        found = data[position : position + len(self._delimiter)]
        if len(found) < len(self._delimiter):
            if not self._delimiter.startswith(found):
                raise Malformed("part_length")
            self._hold(data, position)
            return None
        if found != self._delimiter:
            raise Malformed("part_length")
        self._around(found)
        self._state = self._behind_delimiter
        return position + len(found)

    def _after_last(self, data: bytes, position: int) -> int | None:
        rest = data[position:]
        self._outside += len(rest)
        if rest.strip() or self._outside > OUTSIDE_LIMIT_BYTES:
            raise Malformed("epilogue")
        self._around(rest)
        self._held = b""
        return None


class OnlyPart(Multipart):
    """A multipart body with one part, whose content alone leaves, checked in the same way."""

    def _around(self, data: bytes) -> None:
        self._unchanged = False

    def _begin_part(self, lines: bytes) -> None:
        if self.parts:
            raise Malformed("more_parts")
        super()._begin_part(lines)


def _read_headers(lines: bytes, rules: PartRules) -> tuple[bytes, int | None]:
    """Return the header lines that pass, and the part's Content-Length in bytes. Raises ``Malformed``."""
    kept: list[bytes] = []
    length: int | None = None
    seen: set[bytes] = set()
    for line in lines.split(b"\r\n") if lines else ():
        name, colon, value = line.partition(b":")
        name, text = name.strip().lower(), value.strip()
        is_odd = line[:1] in b" \t" or not line.isascii() or b"\n" in line or b"\r" in line
        if not colon or not name or is_odd or name in seen:
            raise Malformed("part_headers")
        seen.add(name)
        if name == b"content-length":
            if not text.isdigit() or len(text) > 15:
                raise Malformed("part_headers")
            length = int(text)
        elif name == b"content-transfer-encoding" and text.lower() not in (b"binary", b"8bit", b"7bit"):
            raise Malformed("part_headers")  # What a client would decode is not what was looked at.
        elif name == b"content-type" and not rules.accepts(text.decode("ascii")):
            raise Malformed("part_type")
        elif name == b"content-location":
            ours = rules.location(text.decode("ascii"))
            if ours is None:
                continue
            line = b"Content-Location: " + ours.encode("ascii")  # noqa: PLW2901
        if name in _PASSING:
            kept.append(line)
    return b"\r\n".join(kept), length
