"""Checks of the audit trail's destinations. Nothing is written or sent."""

import os
import stat
import time
from pathlib import Path
from typing import Any

from sidecar.audit.spool import REJECTED, begun_ns, progress, segment_names
from sidecar.bootstrap.context import open_session
from sidecar.check.files import LITTLE_BYTES, full_disk, writable
from sidecar.check.outcome import CheckOutcome, failure, ok, unreachable, warning
from sidecar.common.fetch import FetchFailed, fetch
from sidecar.settings.audit import Audit, AuditRepository
from sidecar.settings.document import Settings

_LIMIT_BYTES = 32 * 2**20
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
    segments = [folder / name for name in segment_names(folder)]
    used = sum(file.stat().st_size for file in (folder / REJECTED, *segments) if file.exists())
    if used + LITTLE_BYTES // 16 > audit.spool.max_bytes and audit.when_full == "refuse":
        return failure(
            f"{folder} is full ({used} bytes of audit.spool.max_bytes): nothing is answered",
            "Mend the repository, or look at rejected.jsonl; or set a larger max_bytes and reload.",
        )
    waiting = [time.time() - since for file in segments if (since := _since(file)) is not None]
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


async def audit_repository(settings: Settings) -> CheckOutcome:
    """Check that the CapabilityStatement of ``audit.repository`` offers to take AuditEvents."""
    repository = settings.audit.repository
    if repository.url is None:
        return ok("none")
    try:
        headers = {"Accept": "application/fhir+json"}
        if (authorization := repository.auth.authorization()) is not None:
            headers["Authorization"] = authorization
        async with open_session(repository.ca_file, connections=1) as session:
            answer = await fetch(
                session,
                "GET",
                repository.url + "/metadata",
                limit_bytes=_LIMIT_BYTES,
                timeout_seconds=settings.limits.audit_timeout_seconds,
                headers=headers,
            )
        if answer.status != 200:
            return failure(
                f"{repository.url}/metadata answers {answer.status}",
                "Is audit.repository.url its FHIR base?",
            )
        missing = _missing(answer.json(), repository)
    except FetchFailed as error:
        return unreachable(repository.url, error)
    if missing:
        return warning(
            f"{repository.url} does not say that it offers {missing}",
            "Events may stay in the spool.",
        )
    return ok(repository.url)


def _missing(statement: Any, repository: AuditRepository) -> str | None:
    """Return what we need and the server does not announce; ``None`` when nothing is missing."""
    try:
        (rest,) = [rest for rest in statement["rest"] if rest["mode"] == "server"]
        offered = {
            interaction["code"]
            for resource in rest.get("resource", [])
            if resource["type"] == "AuditEvent"
            for interaction in resource.get("interaction", [])
        }
        system = {interaction["code"] for interaction in rest.get("interaction", [])}
    except (KeyError, TypeError, ValueError, AttributeError):
        return "anything that could be read"
    if repository.interaction not in offered:
        return f"{repository.interaction} for AuditEvent"
    if repository.batch_size > 1 and not system & {"batch", "transaction"}:
        return "batches (set batch_size: 1)"
    return None
