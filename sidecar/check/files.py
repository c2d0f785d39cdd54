"""Checks of files that the service writes. They write nothing: what root makes locks others out."""

import os
from pathlib import Path

from sidecar.check.outcome import CheckOutcome, failure, ok

LITTLE_BYTES = 2**20
"""Bytes below which a disk counts as full."""


def writable(path: Path, key: str, when_full: str) -> CheckOutcome:
    """Check that this user can write to ``path``, or make it where it is absent.

    ``key`` is the setting that names it, ``when_full`` the hint for a disk that is full.
    """
    if not path.parent.is_dir():
        return failure(
            f"{path.parent} does not exist",
            f"Make the folder of {key}, owned by the service's user.",
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return failure(
            f"{path} cannot be written by this user",
            "Run check as the service's user, or mend its rights.",
        )
    return full_disk(path.parent, when_full) or ok(f"{path}")


def full_disk(path: Path, hint: str) -> CheckOutcome | None:
    """Return a failure when the disk of ``path`` is full, else ``None``."""
    disk = os.statvfs(path)
    if disk.f_bavail * disk.f_frsize >= LITTLE_BYTES and (disk.f_favail or not disk.f_files):
        return None
    return failure(f"{path}: its disk is full", hint)
