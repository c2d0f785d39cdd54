"""Where the audit trail goes, without touching it: nothing is written, nothing is told."""

import os
import stat
import time
from pathlib import Path
from typing import Any

from sidecar.audit.spool import ASIDE, REJECTED, positions, segment_names
from sidecar.bootstrap.context import open_session
from sidecar.check.finding import failure, ok, warning
from sidecar.common.fetch import FetchFailed, fetch
from sidecar.conformance.finding import Finding
from sidecar.settings.audit import Audit, AuditRepository
from sidecar.settings.document import Settings

_LIMIT_BYTES = 32 * 2**20
_LITTLE_BYTES = 2**20
_LONG_SECONDS = 900


def audit_sink(settings: Settings) -> Finding:
    """The file, or the spool's folder."""
    name, audit = "audit.sink", settings.audit
    if audit.file is not None:
        return _writable(name, audit.file, "audit.file")
    if audit.spool.folder is not None:
        return _spool(name, audit.spool.folder, audit)
    return ok(name, audit.sink)


def _spool(name: str, folder: Path, audit: Audit) -> Finding:
    """A folder of ours alone: who can write there can forge or remove what is to be told."""
    if not folder.exists() and not folder.is_symlink():
        return _writable(name, folder, "audit.spool.folder")
    if not folder.is_dir():
        return failure(
            name,
            f"{folder} is not a folder",
            "Name one in audit.spool.folder, or remove what is there.",
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return failure(
            name,
            f"{folder} cannot be used by this user",
            "Run check as the service's user, or mend its rights.",
        )
    # Not by its group: with fsGroup Kubernetes gives a volume to that.
    if stat.S_IMODE(folder.stat().st_mode) & 0o002:
        return warning(
            name,
            f"{folder} can be written by others",
            f"chmod 700 {folder}: they could remove events.",
        )
    return _room(name, folder) or _waiting(name, folder, audit)


def _room(name: str, path: Path) -> Finding | None:
    """Whether its disk has none left: then nothing is answered."""
    disk = os.statvfs(path)
    if disk.f_bavail * disk.f_frsize >= _LITTLE_BYTES and (disk.f_favail or not disk.f_files):
        return None
    return failure(
        name,
        f"{path}: its disk is full",
        "Make room: while events cannot be written, nothing is answered.",
    )


def _waiting(name: str, folder: Path, audit: Audit) -> Finding:
    """How much waits, since when; and whether any more may."""
    names = segment_names(folder)
    kept = [folder / REJECTED, folder / ASIDE, *(folder / one for one in names)]
    used = sum(one.stat().st_size for one in kept if one.exists())
    if used + _LITTLE_BYTES // 16 > audit.spool.max_bytes and audit.when_full == "refuse":
        return failure(
            name,
            f"{folder} is full ({used} bytes of audit.spool.max_bytes): nothing is answered",
            "Mend the repository, or look at rejected.jsonl; or set a larger max_bytes and reload.",
        )
    since = min((one for one in map(_since, kept[1:]) if one is not None), default=time.time())
    if time.time() - since > _LONG_SECONDS:
        return warning(
            name,
            f"{folder}: events have been waiting for more than {int(time.time() - since) // 60} minutes",
            "Is a sidecar running that delivers them? Its log says what the repository answers.",
        )
    return ok(name, f"{folder}")


def _since(file: Path) -> float | None:
    """Since when something in it waits: its beginning while nothing was delivered, then its last change."""
    try:
        found, delivered = file.stat(), positions(file.parent).get(file.name, 0)
    except FileNotFoundError:
        return None
    if found.st_size <= delivered:
        return None
    begun = file.name.partition("-")[0]
    return int(begun) / 1e9 if begun.isdecimal() and not delivered else found.st_mtime


def _writable(name: str, path: Path, key: str) -> Finding:
    if not path.parent.is_dir():
        return failure(
            name,
            f"{path.parent} does not exist",
            f"Make the folder of {key}, owned by the service's user.",
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return failure(
            name,
            f"{path} cannot be written by this user",
            "Run check as the service's user, or mend its rights.",
        )
    return _room(name, path.parent) or ok(name, f"{path}")


async def audit_repository(settings: Settings) -> Finding:
    """Whether the FHIR server of ``audit.repository`` says that it takes AuditEvents (FHIR R4 CapabilityStatement)."""
    name, repository = "audit.repository", settings.audit.repository
    if repository.url is None:
        return ok(name, "none")
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
                timeout_seconds=repository.timeout_seconds,
                headers=headers,
            )
        if answer.status != 200:
            return failure(
                name,
                f"{repository.url}/metadata answers {answer.status}",
                "Is audit.repository.url its FHIR base?",
            )
        missing = _missing(answer.json(), repository)
    except FetchFailed as failed:
        return failure(
            name,
            f"{repository.url}: {failed.detail or failed.reason}",
            "Is it reachable from here? ca_file trusted?",
        )
    if missing:
        return warning(
            name,
            f"{repository.url} does not say that it offers {missing}",
            "Events may stay in the spool.",
        )
    return ok(name, repository.url)


def _missing(statement: Any, repository: AuditRepository) -> str | None:
    """What the server does not announce of what we need."""
    try:
        (rest,) = [one for one in statement["rest"] if one["mode"] == "server"]
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
