"""The limit of open files of this process, and what follows from it for client connections."""

import contextlib
import logging
import resource

log = logging.getLogger(__name__)

_FEW_FILES = 4_096


def raise_open_files() -> None:
    """Raise the limit of open files to what the system grants. Each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS grants less than it says.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _FEW_FILES:
        log.warning(
            "few open files are allowed: raise the limit of this process", extra={"limit": soft}
        )


def connections_allowed(configured: int) -> int:
    """Return how many client connections are accepted: at most half of the open files.

    The other half is for the archive, the EHR, files, and the admin listener.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY or files // 2 >= configured:
        return configured
    allowed = files // 2
    log.warning(
        "fewer client connections than limits.client_connections: "
        "raise the limit of open files of this process",
        extra={"configured": configured, "allowed": allowed},
    )
    return allowed
