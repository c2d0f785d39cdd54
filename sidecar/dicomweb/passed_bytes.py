"""The bytes of a multipart that leave, and how many they will be.

What leaves unchanged is not copied.
"""


class PassedBytes:
    """Bytes that leave: pieces, and behind them a range of the data that a scanner works on.

    Until ``has_released``, none leave. They are copied then, since the data do not stay.
    ``one_part``: the body must have one part, whose head shows how long the body will be.
    """

    def __init__(self, *, one_part: bool) -> None:
        self._output: list[bytes | memoryview] = []
        self._begin = self._end = 0
        self._has_released = False
        self._one_part = one_part
        self._added = 0  # Number of bytes by which the header lines of parts grew.
        # Whether the length of what leaves has been announced and must not change any more.
        self._keeps_length = False
        self.is_closed = False
        # The header lines of the current part, and their position in the data, if they are there
        # unchanged.
        self._lines = b""
        self._lines_begin: int | None = None

    def length(self, content_length: int | None) -> int | None:
        """Return how many bytes leave in all, when the first ones leave.

        With several parts this is ``content_length`` if no header line has changed yet. From then
        on no change of header lines changes their length.
        """
        if content_length is None:
            return None
        if self._one_part or self.is_closed:
            return content_length + self._added
        self._keeps_length = not self._added
        return content_length if self._keeps_length else None

    def _release(self, data: bytes, begin: int, end: int) -> None:
        """Let the data from ``begin`` to ``end`` leave."""
        if begin != self._end:
            self._move_output(data)
            self._begin = begin
        self._end = end

    def _release_framing(self, data: bytes, begin: int, end: int) -> None:
        """Let a delimiter leave."""
        self._release(data, begin, end)

    def _release_lines(self, data: bytes, position: int) -> None:
        """Let the header lines leave of the part that begins at ``position``."""
        self._has_released = True
        if self._lines_begin is not None:
            self._release(data, self._lines_begin, position)
        else:
            self._move_output(data)
            self._output.append(self._lines)

    def _move_output(self, data: bytes) -> None:
        """Make a piece of the range of the data."""
        begin, end = self._begin, self._end
        if end > begin:
            piece = data if end - begin == len(data) else memoryview(data)[begin:end]
            self._output.append(piece if self._has_released else bytes(piece))
        self._begin = end

    def _take_output(self) -> bytes | memoryview:
        """Return the pieces as one. Usually there is one, and nothing is copied."""
        if not self._has_released:
            return b""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else b"".join(output)
