"""Notice changes in the configuration's files, and in the files that it names."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from sidecar.settings.document import Settings


async def watch(
    settings: Callable[[], Settings], files: Sequence[Path], changed: asyncio.Event
) -> None:
    """Set ``changed`` when one of ``files``, or a file that the settings name, has changed.

    ``settings`` returns the present ones, whose ``server.reload_seconds`` is the interval (0: off).
    """
    known = _versions(settings(), files)
    while True:
        await asyncio.sleep(settings().server.reload_seconds or 1)
        seen = _versions(settings(), files)
        # A file that a reload has just named for the first time is no change.
        has_changed = any(seen[file] != known[file] for file in seen.keys() & known.keys())
        if has_changed and settings().server.reload_seconds:
            changed.set()
        known = seen


def _versions(settings: Settings, files: Sequence[Path]) -> dict[Path, object]:
    return {file: _version(file) for file in (*files, *_files_of(settings))}


def _files_of(section: BaseModel) -> Iterator[Path]:
    """Return every file that the settings name, except those that we write."""
    for name, value in section:
        values = value.values() if isinstance(value, dict) else value
        for part in values if isinstance(value, dict | list) else [value]:
            if isinstance(part, BaseModel):
                yield from _files_of(part)
            elif isinstance(part, Path) and name not in ("file", "folder"):
                yield part


def _version(file: Path) -> object:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
