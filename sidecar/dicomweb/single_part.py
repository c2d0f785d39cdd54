"""The scanner of a multipart with one part, for a client that accepts no multipart."""

from sidecar.dicomweb.body_filter import Malformed
from sidecar.dicomweb.multipart import Multipart

SHORT_PART_BYTES = 65_536
"""Number of bytes held back at first. Until they leave, a second part gets an error status."""


class SinglePart(Multipart):
    """Scanner of a multipart with one part, whose content alone leaves."""

    _is_leaving = False
    _length: int | None = None

    def length(self, content_length: int | None) -> int | None:
        """Return the part's length in bytes, if its header has it or the part is whole."""
        return self._length

    def _take_output(self) -> bytes | memoryview:
        size = sum(map(len, self._output))
        if not (self._is_leaving or self.is_closed or size >= SHORT_PART_BYTES):
            return b""
        if self.is_closed and not self._is_leaving:
            self._length = size
        self._is_leaving = True
        return super()._take_output()

    def _release_framing(self, data: bytes, begin: int, end: int) -> None:
        pass  # No delimiter leaves.

    def _release_lines(self, data: bytes, position: int) -> None:
        self._has_released = True

    def _begin_part(self, lines: bytes) -> None:
        if self.parts:
            raise Malformed("more_parts" if self._check is not None else "several_values")
        super()._begin_part(lines)
        self._length = self._remaining

    def end(self) -> bytes:
        """Return nothing: no delimiter leaves. Raises ``Malformed`` as ``Multipart`` does."""
        super().end()
        return b""
