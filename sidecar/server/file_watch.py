"""Notice changes in the configuration's files, and in the files that it names."""

from collections.abc import Iterable
from pathlib import Path


class FileWatch:
    """Compare files with their state at the last look."""

    def __init__(self) -> None:
        self._known: dict[str, object] = {}

    def add(self, files: Iterable[str]) -> None:
        """Watch these, too. Those that are watched already keep the state of the last look."""
        self._known = {file: _version(Path(file)) for file in files} | self._known

    def has_changed(self, files: Iterable[str]) -> bool:
        """Return whether one of ``files`` has changed since the last look.

        A file that was not named at the last look is no change.
        """
        seen = {file: _version(Path(file)) for file in files}
        changed = any(seen[file] != self._known[file] for file in seen.keys() & self._known.keys())
        self._known = seen
        return changed


def _version(file: Path) -> object:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
