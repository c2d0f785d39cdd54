"""Whether a multipart body came whole (RFC 2046 5.1.1; SIA-43).

Orthanc ends a full study by closing the connection, so a crash in the middle looks like the end unless one looks for
the closing delimiter.
"""


class ClosingDelimiter:
    """Watches a body go by, in any split, for its closing delimiter ``--boundary--``; keeps only its last bytes."""

    EPILOGUE_BYTES = 64
    """What may follow the closing delimiter: a line break, some padding."""

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"--" + boundary.encode("ascii") + b"--"
        self._keep = len(self._delimiter) + self.EPILOGUE_BYTES
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._tail = chunk[-self._keep :] if len(chunk) >= self._keep else (self._tail + chunk)[-self._keep :]

    @property
    def seen(self) -> bool:
        """Whether the body, as far as it was fed, ends with the closing delimiter."""
        return self._delimiter in self._tail
