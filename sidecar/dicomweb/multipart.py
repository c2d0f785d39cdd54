"""A multipart/related body (RFC 2046 5.1, PS3.18 8.6), checked part by part, in any split.

The scanner does no I/O: it takes bytes and returns the bytes that may leave. No byte of a part
leaves before the part's header lines have been read and, for an instance, before its patient is
known. The bytes leave unchanged, but for part headers with the archive's address. Memory is bounded
by the head of one part.
"""

from collections.abc import Iterator

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.header_cache import HeaderPatternCache
from sidecar.dicom.instance_header import STEP_BYTES, HeaderReader, read_known
from sidecar.dicomweb.body_filter import Check, Malformed
from sidecar.dicomweb.part_headers import HEADERS_LIMIT_BYTES, fit_headers, read_headers
from sidecar.dicomweb.passed_bytes import PassedBytes
from sidecar.dicomweb.paths import Kind

OUTSIDE_LIMIT_BYTES = 1_024
"""Limit in bytes of white space before the first delimiter, or after the last one."""
STEP_WORK = 800
"""Limit of the work of a step, in data elements that a walk passes: some milliseconds."""
PART_WORK = 40
"""Work of a part beside its elements, and of each call of its reader, in data elements."""
_LINES_WORK_BYTES = 8
"""Number of bytes of new header lines that cost as much as an element."""


class Multipart(PassedBytes):
    """Scanner of a multipart body with ``boundary``, of a resource of this ``kind``.

    Before the first part has passed nothing leaves, no delimiter either, so that a failure can
    still get an error status.

    URLs become ours below ``root``. ``check`` gets the header of each instance; it is ``None`` when
    parts are no instances. ``one_part``: see ``PassedBytes``.
    """

    def __init__(
        self, boundary: str, kind: Kind, root: str, check: Check | None, *, one_part: bool = False
    ) -> None:
        super().__init__(one_part=one_part)
        self._kind = kind
        self._root = root
        self._check = check
        self._patterns = None if check is None else HeaderPatternCache()
        # The header lines that came last, and what ``read_headers`` returned for them.
        self._last_headers: tuple[bytes | None, tuple[bytes, int | None]] = None, (b"", None)
        self._first = b"--" + boundary.encode("ascii")
        self._delimiter = b"\r\n" + self._first
        self._between_parts = self._delimiter + b"\r\n"
        self._held = b""
        self._state = self._before_first
        # The body's end, from the closing delimiter's last two characters on, which is held back.
        self._closing = b""
        self._work = 0  # Work of the current step, in elements.
        # State of the current part: bytes left (None: until the delimiter), its reader, and how
        # many of the bytes that have not left yet the reader has taken.
        self._remaining: int | None = None
        self._reader: HeaderReader | None = None
        self._seen = 0
        self.parts = 0

    def steps(self, chunk: bytes) -> Iterator[bytes | memoryview]:
        """Return the bytes that may leave, some milliseconds of work at a time."""
        data = self._held + chunk if self._held else chunk
        position: int | None = 0
        self._begin = self._end = 0
        self._lines_begin = None
        while position is not None:
            self._work = 0
            while position is not None and self._work < STEP_WORK:
                position = self._state(data, position)
            self._move_output(data)
            yield self._take_output()

    def end(self) -> bytes:
        """Return the end of the body. Raises ``Malformed`` unless it came, behind a part."""
        if not self.is_closed:
            raise Malformed("truncated")
        if not self.parts:
            raise Malformed("empty")
        return self._closing

    # Each state takes the data and a position in them. It returns the next state's position, or
    # None when more data are needed: then the bytes from there on are in _held.

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
        self._release_framing(data, position, end)
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
        self._release_framing(data, position, line_end + 2)
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
        if self._lines == data[position:body]:
            self._lines_begin = position
        if self._check is None:
            self._release_lines(data, body)
        return body

    def _begin_part(self, lines: bytes) -> None:
        passing, self._remaining = self._read_headers(lines)
        if self._keeps_length and len(passing) != len(lines):
            passing = fit_headers(passing, len(lines))
        self._lines = passing + b"\r\n\r\n" if passing else b"\r\n"
        self._lines_begin = None
        added = len(self._lines) - (len(lines) + 4 if lines else 2)
        if added and self.parts and self._one_part:
            raise Malformed("more_parts")
        self._added += added
        self.parts += 1
        self._work += PART_WORK
        self._reader, self._seen = None, 0
        self._state = self._in_body if self._check is None else self._in_instance_header

    def _read_headers(self, lines: bytes) -> tuple[bytes, int | None]:
        if lines != self._last_headers[0]:  # Mostly they are those of the part before.
            self._last_headers = lines, read_headers(lines, self._kind, self._root)
            self._work += len(lines) // _LINES_WORK_BYTES
        return self._last_headers[1]

    def _in_instance_header(self, data: bytes, position: int) -> int | None:
        """Read the instance's header. No byte of the part leaves before it is checked."""
        if self._reader is None:
            header = self._read_known(data, position)
            if header is not None:
                return self._release_instance(header, data, position)
            self._reader = HeaderReader(self._patterns)
        reader = self._reader
        while reader.header is None or reader.has_more:
            if self._work >= STEP_WORK:
                return position
            begin = position + self._seen
            # A delimiter may begin before the limit and end behind it.
            limit = begin if reader.has_more else min(len(data), begin + STEP_BYTES)
            end, complete = self._part_end(
                data, position, min(len(data), limit + len(self._delimiter))
            )
            stop = min(end, limit)
            self._read(reader, memoryview(data)[begin:stop])
            self._seen = stop - position
            if reader.header is not None or reader.has_more:
                continue
            if complete and stop == end:
                reader.end()
            elif stop == end:
                self._held = data[position:]
                return None
        return self._release_instance(reader.header, data, position)

    def _release_instance(self, header: InstanceHeader, data: bytes, position: int) -> int:
        assert self._check is not None  # noqa: S101
        self._check(header)
        self._release_lines(data, position)
        self._state = self._in_body
        return position

    def _read_known(self, data: bytes, position: int) -> InstanceHeader | None:
        """Return the header of an instance that needs no reader: ``instance_header.read_known``."""
        if self._remaining is None or self._patterns is None:
            return None
        self._work += PART_WORK
        return read_known(self._patterns, data, position, self._remaining)

    def _read(self, reader: HeaderReader, piece: memoryview) -> None:
        """Feed the reader the next bytes of the part."""
        before = reader.elements
        reader.feed_some(piece)
        self._work += PART_WORK + reader.elements - before

    def _part_end(self, data: bytes, position: int, limit: int) -> tuple[int, bool]:
        """Return the end of the part in ``data`` up to ``limit``, and whether it ends there.

        What may be the beginning of a delimiter at the end of ``data`` is not of the part yet.
        """
        if self._remaining is not None:
            end = position + self._remaining
            return min(end, limit), end <= limit
        end = data.find(self._delimiter, position, limit)
        if end >= 0:
            return end, True
        return (self._safe_end(data, position) if limit == len(data) else limit), False

    def _in_body(self, data: bytes, position: int) -> int | None:
        end, complete = self._part_end(data, position, len(data))
        reader = self._reader
        read = end if reader is None else position
        while reader is not None and (read < end or reader.has_more) and self._work < STEP_WORK:
            read = self._read_on(reader, data, read, end)
        if self._remaining is not None:
            self._remaining -= read - position
        self._release(data, position, read)
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
        """Feed the reader some bytes behind the header; return the position that it has read to.

        The reader refuses another patient's number there.
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
        """Pass over the next bytes of the part that the reader does not need; return how many."""
        return reader.pass_over(size)

    def _safe_end(self, data: bytes, position: int) -> int:
        """Return the position before which no delimiter can begin that ends in the next chunk."""
        begin = data.rfind(b"\r", max(position, len(data) - len(self._delimiter) + 1))
        return begin if begin >= 0 and self._delimiter.startswith(data[begin:]) else len(data)

    def _at_delimiter(self, data: bytes, position: int) -> int | None:
        if data.startswith(self._between_parts, position):  # Mostly.
            end = position + len(self._between_parts)
            self._release_framing(data, position, end)
            self._state = self._in_headers
            return end
        delimiter = data[position : position + len(self._delimiter)]
        if not self._delimiter.startswith(delimiter):
            raise Malformed("part_length")
        if len(delimiter) < len(self._delimiter):
            self._held = delimiter
            return None
        self._release_framing(data, position, position + len(delimiter))
        self._state = self._behind_delimiter
        return position + len(delimiter)

    def _after_last(self, data: bytes, position: int) -> int | None:
        rest = data[position:]
        if rest.strip() or len(self._closing) + len(rest) > OUTSIDE_LIMIT_BYTES + len(b"--"):
            raise Malformed("epilogue")
        self._closing += rest
        self._held = b""
        return None
