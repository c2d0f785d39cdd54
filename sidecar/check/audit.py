"""Checks of the audit trail's file and of its spool. Nothing is written."""

import os
import stat
import time
from pathlib import Path

from sidecar.audit.spool import begun_ns, progress, segments, used_bytes
from sidecar.check.files import LITTLE_BYTES, full_disk, writable
from sidecar.check.outcome import CheckOutcome, failure, ok, warning
from sidecar.settings.audit import Audit
from sidecar.settings.document import Settings

_LONG_SECONDS = 900
_FULL = "Make room: while events cannot be written, nothing is answered."


def audit_sink(settings: Settings) -> CheckOutcome:
    """Check the file of the trail, or the folder of its spool."""
    audit = settings.audit
    if audit.file is not None:
        return writable(audit.file, "audit.file", _FULL)
    if audit.spool.folder is not None:
        return _spool(audit.spool.folder, audit)
    return ok(audit.sink)


def _spool(folder: Path, audit: Audit) -> CheckOutcome:
    """Check the spool. Whoever can write to its folder can forge or remove undelivered events."""
    if not folder.exists() and not folder.is_symlink():
        return writable(folder, "audit.spool.folder", _FULL)
    if not folder.is_dir():
        return failure(
            f"{folder} is not a folder", "Name one in audit.spool.folder, or remove what is there."
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return failure(
            f"{folder} cannot be used by this user",
            "Run check as the service's user, or mend its rights.",
        )
    # Its group may write: Kubernetes gives a volume to the group of fsGroup.
    if stat.S_IMODE(folder.stat().st_mode) & 0o002:
        return warning(
            f"{folder} can be written by others", f"chmod 700 {folder}: they could remove events."
        )
    return full_disk(folder, _FULL) or _waiting(folder, audit)


def _waiting(folder: Path, audit: Audit) -> CheckOutcome:
    """Check the size and the age of the events in the spool, and whether it has room for more."""
    used = used_bytes(folder)
    if used + LITTLE_BYTES // 16 > audit.spool.max_bytes and audit.when_full == "refuse":
        return failure(
            f"{folder} is full ({used} bytes of audit.spool.max_bytes): nothing is answered",
            "Mend the repository, or look at rejected.jsonl; or set a larger max_bytes and reload.",
        )
    waiting = [
        time.time() - since
        for name in segments(folder)
        if (since := _since(folder / name)) is not None
    ]
    if (seconds := max(waiting, default=0)) > _LONG_SECONDS:
        return warning(
            f"{folder}: events have been waiting for more than {int(seconds) // 60} minutes",
            "Is a sidecar running that delivers them? Its log says what the repository answers.",
        )
    return ok(f"{folder}")


def _since(file: Path) -> float | None:
    """Return when an event in ``file`` began to wait, in seconds since 1970; ``None`` if none does.

    That is the file's beginning while nothing in it was delivered, and then its last change.
    """
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    positions, retries = progress(file.parent)
    delivered = positions.get(file.name, 0)
    if status.st_size <= delivered and all(name != file.name for name, *_ in retries):
        return None
    return status.st_mtime if delivered else begun_ns(file.name) / 1e9
