"""A multipart/related body (RFC 2046 5.1, PS3.18 8.6), checked part by part, in any split.

Sans I/O: bytes in, the bytes that may leave out. No byte of a part leaves before the part's header
has been looked at and, for instances, before their patient is known. What is passed on is what
came, but for part headers with the archive's address. Memory is bounded by the head of one part.
"""

from collections.abc import Iterator

from sidecar.dicom.header_cache import HeaderPatternCache
from sidecar.dicom.instance_header import STEP_BYTES, HeaderReader
from sidecar.dicomweb.body_filter import Check, Malformed
from sidecar.dicomweb.part_headers import HEADERS_LIMIT_BYTES, PartPolicy, fit_headers, read_headers

OUTSIDE_LIMIT_BYTES = 1_024
"""White space before the first delimiter, or after the last one."""
STEP_WORK = 800
"""Limit of the work of one step, in data elements stepped over: some milliseconds."""
PART_WORK = 40
"""Work of a part beside its elements, and of each look at one."""
_LINES_WORK_BYTES = 8
"""Bytes of new header lines that cost as much as an element."""


class Multipart:
    """Scanner of a multipart body with ``boundary``.

    ``check`` gets the header of each instance; it is ``None`` when parts are no instances.
    ``one_part``: no more than one was asked for, so the first one's head shows how long the body
    will be.
    """

    def __init__(
        self, boundary: str, policy: PartPolicy, check: Check | None, *, one_part: bool = False
    ) -> None:
        self._one_part = one_part
        self._added = 0  # Bytes by which the header lines of parts grew.
        # Whether the length that leaves has been announced: then it must not grow any more.
        self._keeps_length = False
        self._policy = policy
        self._check = check
        self._patterns = HeaderPatternCache()
        self._read_last: tuple[bytes | None, tuple[bytes, int | None]] = None, (b"", None)
        self._first = b"--" + boundary.encode("ascii")
        self._delimiter = b"\r\n" + self._first
        self._held = b""
        self._state = self._before_first
        self._out: list[bytes | memoryview] = []
        # From the closing delimiter's last two characters on: held back until the end.
        self._closing = b""
        self.is_closed = False
        # Till then nothing leaves, no delimiter either: an error can still be an error.
        self._has_released = False
        # Of the step under way: whether what leaves is the beginning of the data, and whether
        # the header lines of the part are among the data.
        self._unchanged = True
        self._lines_are_here = False
        # Of the part under way: bytes left (None: until the delimiter), its header lines, its
        # reader, and how many of the bytes that have not left yet the reader has seen.
        self._remaining: int | None = None
        self._lines = b""
        self._reader: HeaderReader | None = None
        self._seen = 0
        self._work = 0  # Of the step under way.
        self.parts = 0

    def length(self, came: int | None) -> int | None:
        """Return how many bytes leave in all, when the first ones leave.

        With several parts it is what came, as long as no header line was changed; from then on none
        changes its length.
        """
        if came is None:
            return None
        if self._one_part or self.is_closed:
            return came + self._added
        self._keeps_length = not self._added
        return came if self._keeps_length else None

    def steps(self, chunk: bytes) -> Iterator[bytes | memoryview]:
        """Return what may be passed on, some milliseconds of work at a time."""
        data = self._held + chunk if self._held else chunk
        position: int | None = 0
        while position is not None:
            start, self._work = position, 0
            self._unchanged, self._lines_are_here = not self._out, False
            while position is not None and self._work < STEP_WORK:
                position = self._state(data, position)
            yield self._passed(data, start)

    def _passed(self, data: bytes, start: int) -> bytes | memoryview:
        if not self._has_released:
            return b""
        out, self._out = self._out, []
        if not self._unchanged:
            return b"".join(out)
        # The usual case: what leaves is the beginning of what came. Nothing is copied.
        size = sum(map(len, out))
        return data if size == len(data) else memoryview(data)[start : start + size]

    def end(self) -> bytes:
        """Return what closes the body. Raises ``Malformed`` unless it came, behind a part."""
        if not self.is_closed:
            raise Malformed("truncated")
        if not self.parts:
            raise Malformed("empty")
        return self._closing

    # Each state takes the data and where it goes on; it returns where the next state goes on, or
    # None after it has put what must wait for more data into _held.

    def _around(self, data: bytes) -> None:
        """Release what is not a part's content."""
        self._out.append(data)

    def _before_first(self, data: bytes, position: int) -> int | None:
        start = data.find(self._first, position)
        if start < 0:
            self._held = data[position:]
            may_begin = self._first.startswith(self._held.lstrip())
            if not may_begin or len(self._held) > OUTSIDE_LIMIT_BYTES:
                raise Malformed("preamble")
            return None
        if data[position:start].strip():
            raise Malformed("preamble")
        end = start + len(self._first)
        self._around(data[position:end])
        self._state = self._behind_delimiter
        return end

    def _behind_delimiter(self, data: bytes, position: int) -> int | None:
        if data.startswith(b"--", position):
            self._closing, self.is_closed = b"--", True
            self._state = self._after_last
            return position + 2
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            if len(data) - position > OUTSIDE_LIMIT_BYTES:
                raise Malformed("delimiter")
            self._held = data[position:]
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
                self._held = data[position:]
                return None
        self._begin_part(data[position:end])
        return body

    def _begin_part(self, lines: bytes) -> None:
        kept, self._remaining = self._read_headers(lines)
        if self._keeps_length and len(kept) != len(lines):
            kept = fit_headers(kept, len(lines))
        self._lines = kept + b"\r\n\r\n" if kept else b"\r\n"
        self._lines_are_here = kept == lines
        added = len(self._lines) - (len(lines) + 4 if lines else 2)
        if added and self.parts and self._one_part:
            raise Malformed("more_parts")
        self._added += added
        self.parts += 1
        self._work += PART_WORK
        if self._check is None:
            self._release_lines()
            self._state = self._in_body
        else:
            self._reader, self._seen = HeaderReader(self._patterns), 0
            self._state = self._in_instance_header

    def _read_headers(self, lines: bytes) -> tuple[bytes, int | None]:
        if lines != self._read_last[0]:  # They are mostly those of the part before.
            self._read_last = lines, read_headers(lines, self._policy)
            self._work += len(lines) // _LINES_WORK_BYTES
        return self._read_last[1]

    def _in_instance_header(self, data: bytes, position: int) -> int | None:
        """Read the header: no byte of the part leaves before it is checked."""
        reader, check = self._reader, self._check
        assert reader is not None and check is not None  # noqa: S101, PT018
        while reader.header is None or reader.has_more:
            if self._work >= STEP_WORK:
                return position
            begin = position + self._seen
            # A delimiter may begin in the look and end behind it.
            reach = begin if reader.has_more else min(len(data), begin + STEP_BYTES)
            end, complete = self._part_end(
                data, position, min(len(data), reach + len(self._delimiter))
            )
            stop = min(end, reach)
            self._read(reader, memoryview(data)[begin:stop])
            self._seen = stop - position
            if reader.header is not None or reader.has_more:
                continue
            if complete and stop == end:
                reader.end()
            elif stop == len(data):
                self._held = data[position:]
                return None
        check(reader.header)
        self._release_lines()
        self._state = self._in_body
        return position

    def _read(self, reader: HeaderReader, piece: memoryview) -> None:
        """Let the reader see the next bytes of the part."""
        before = reader.elements
        reader.feed_some(piece)
        self._work += PART_WORK + reader.elements - before

    def _release_lines(self) -> None:
        self._has_released = True
        self._around(self._lines)
        if not self._lines_are_here:
            self._unchanged = False

    def _part_end(self, data: bytes, position: int, limit: int) -> tuple[int, bool]:
        """Return how far the part goes in ``data`` up to ``limit``, and whether it ends there."""
        if self._remaining is not None:
            end = position + self._remaining
            return min(end, limit), end <= limit
        end = data.find(self._delimiter, position, limit)
        return (limit, False) if end < 0 else (end, True)

    def _in_body(self, data: bytes, position: int) -> int | None:
        end, complete = self._part_end(data, position, len(data))
        if not complete and self._remaining is None:
            end = self._safe_end(data, position)
        reader = self._reader
        read = position
        if reader is None:
            read = end
        while reader is not None and (read < end or reader.has_more) and self._work < STEP_WORK:
            read = self._read_on(reader, data, read, end)
        if self._remaining is not None:
            self._remaining -= read - position
        if read > position:
            self._out.append(
                memoryview(data)[position:read] if position or read < len(data) else data
            )
        if read < end or (reader is not None and reader.has_more):
            return read
        if not complete:
            self._held = data[end:]
            return None
        if reader is not None:
            reader.end()
        self._state = self._at_delimiter
        return end

    def _read_on(self, reader: HeaderReader, data: bytes, position: int, end: int) -> int:
        """Let the reader see some bytes behind the header; return how far it has read.

        It refuses another patient's number there.
        """
        begin = min(position + self._seen, end)
        stop = begin
        if not reader.has_more:
            stop += self._pass_over(reader, end - begin)
            begin = stop
            stop = min(end, begin + STEP_BYTES)
        if stop > begin or reader.has_more:
            self._read(reader, memoryview(data)[begin:stop])
        read = position if reader.has_more else stop
        self._seen = max(position + self._seen, stop) - read
        return read

    def _pass_over(self, reader: HeaderReader, size: int) -> int:
        """Pass over the next bytes of the part that the reader need not see; return how many."""
        return reader.pass_over(size)

    def _safe_end(self, data: bytes, position: int) -> int:
        """Return up to where no delimiter can begin that goes on in the next chunk."""
        begin = data.rfind(b"\r", max(position, len(data) - len(self._delimiter) + 1))
        return begin if begin >= 0 and self._delimiter.startswith(data[begin:]) else len(data)

    def _at_delimiter(self, data: bytes, position: int) -> int | None:
        found = data[position : position + len(self._delimiter)]
        if not self._delimiter.startswith(found):
            raise Malformed("part_length")
        if len(found) < len(self._delimiter):
            self._held = found
            return None
        self._around(found)
        self._state = self._behind_delimiter
        return position + len(found)

    def _after_last(self, data: bytes, position: int) -> int | None:
        rest = data[position:]
        if rest.strip() or len(self._closing) + len(rest) > OUTSIDE_LIMIT_BYTES + len(b"--"):
            raise Malformed("epilogue")
        self._closing += rest
        self._held = b""
        return None
