"""The scanner of a multipart of instances that leaves as a ZIP (PS3.18 8.6.1.3, APPNOTE 6.3.10).

Each instance is a file, stored without compression. The archive is asked for a multipart, whose
parts can be checked as they go by, and the ZIP is written here. Readers need its central directory,
which takes the place of a multipart's closing delimiter: it is written when the number of instances
is known to be right.
"""

from typing import IO
from zipfile import ZipFile, ZipInfo

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.header_cache import HeaderPatternCache
from sidecar.dicom.instance_header import HeaderReader
from sidecar.dicomweb.body_filter import Check
from sidecar.dicomweb.file_names import FileNames, NumbersReader
from sidecar.dicomweb.multipart import Multipart
from sidecar.dicomweb.paths import Kind

_BLOCK_BYTES = 2**16


class ZipArchive(Multipart):
    """Scanner of a multipart whose parts leave as the files of a ZIP.

    No byte of a file leaves before its name is known, whose elements may be behind the header.
    """

    def __init__(self, boundary: str, kind: Kind, root: str, check: Check | None) -> None:
        super().__init__(boundary, kind, root, check)
        self._file_names = FileNames()
        self._numbers_patterns = HeaderPatternCache()
        self._zip_output = _ZipOutput()
        self._zip = _Unfinished(self._zip_output, "w")
        # State of the current part: its length in bytes (None: not known), the reader of its name,
        # whether the name is known, and the data that wait for it.
        self._size: int | None = None
        self._numbers = NumbersReader()
        self._is_named = False
        self._waiting: list[bytes] = []
        self._file: IO[bytes] | None = None

    def length(self, content_length: int | None) -> int | None:
        """Return ``None``: a ZIP has another length than the multipart."""
        return None

    def end(self) -> bytes:
        """Return nothing: the end is ``directory``. Raises ``Malformed`` as ``Multipart`` does."""
        super().end()
        return b""

    def directory(self) -> list[bytes]:
        """Return the central directory in blocks; to be called once, behind ``end``.

        It takes some microseconds a file, too long for the event loop where files are many.
        """
        self._zip.close()
        directory = memoryview(self._zip_output.take())
        starts = range(0, len(directory), _BLOCK_BYTES)
        return [bytes(directory[start : start + _BLOCK_BYTES]) for start in starts]

    def _release_framing(self, data: bytes, begin: int, end: int) -> None:
        pass  # No delimiter leaves.

    def _take_output(self) -> bytes | memoryview:
        return self._zip_output.take()

    def _begin_part(self, lines: bytes) -> None:
        self._numbers, self._is_named = NumbersReader(self._numbers_patterns), False
        super()._begin_part(lines)

    def _release_lines(self, data: bytes, position: int) -> None:
        self._size = self._remaining

    def _read_known(self, data: bytes, position: int) -> InstanceHeader | None:
        return None  # Where the elements of its name are is not known.

    def _read(self, reader: HeaderReader, piece: memoryview) -> None:
        before = self._work
        super()._read(reader, piece)
        if not self._is_named:
            self._is_named = self._numbers.read(piece)
            self._work += self._work - before

    def _pass_over(self, reader: HeaderReader, size: int) -> int:
        return super()._pass_over(reader, size) if self._is_named else 0

    def _at_delimiter(self, data: bytes, position: int) -> int | None:
        after = super()._at_delimiter(data, position)
        if after is not None:
            (self._file or self._begin_file()).close()
            self._file = None
        return after

    def _release(self, data: bytes, begin: int, end: int) -> None:
        piece = memoryview(data)[begin:end]
        if self._file is not None or self._is_named:
            (self._file or self._begin_file()).write(piece)
        else:
            self._waiting.append(bytes(piece))

    def _begin_file(self) -> IO[bytes]:
        info = ZipInfo(self._file_names.name(self._numbers.values))
        info.file_size = self._size or 0
        # A file of unknown length may need ZIP64. Others do without: not every reader knows it.
        self._file = self._zip.open(info, "w", force_zip64=self._size is None)
        for piece in self._waiting:
            self._file.write(piece)
        self._waiting.clear()
        return self._file


class _Unfinished(ZipFile):
    """A ZIP that the garbage collector does not finish: ``close`` does."""

    def __del__(self) -> None:
        pass


class _ZipOutput:
    """Output of a ``ZipFile``. It cannot seek, so size and checksum are behind each file."""

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []

    def write(self, piece: bytes | memoryview) -> int:
        """Store the bytes until ``take``."""
        self._pieces.append(piece)
        return len(piece)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def take(self) -> bytes | memoryview:
        """Return the bytes written since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
