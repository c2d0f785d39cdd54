"""The bytes of a body that leave: what leaves unchanged is not copied."""


class PassedBytes:
    """Bytes that leave: pieces, and behind them a range of the data that a scanner works on.

    Until ``has_released``, none leave. They are copied then, since the data do not stay.
    """

    def __init__(self) -> None:
        self._output: list[bytes | memoryview] = []
        self._begin = self._end = 0
        self._has_released = False

    def _release(self, data: bytes, begin: int, end: int) -> None:
        """Let the data from ``begin`` to ``end`` leave."""
        if begin != self._end:
            self._move_output(data)
            self._begin = begin
        self._end = end

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
