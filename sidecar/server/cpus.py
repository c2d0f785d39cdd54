"""The CPUs that this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def granted_cpus(root: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return the CPUs that affinity and the cgroups grant, rounded up; at least 1.

    ``root``: where the cgroups' files are (version 2, or version 1). ``own``: names ours (version
    2): in a container mostly the root, under systemd that of the unit.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [_quota(folder, ["cpu.max"]) for folder in _folders(root, own)]
    quotas.append(_quota(root / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]))
    return max(1, math.ceil(min(affinity or 1, *quotas)))


def _folders(root: Path, own: Path) -> Iterator[Path]:
    """Return the folder of our cgroup and those above it: each may have a quota."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    path = Path(next((line[len("0::/") :] for line in lines if line.startswith("0::/")), ""))
    yield root
    if ".." not in path.parts:  # Else it is outside of what this container sees.
        yield from (root / part for part in (path, *path.parents))


def _quota(folder: Path, files: list[str]) -> float:
    """Return the CPUs of a quota, or infinity without one."""
    try:
        quota, period = " ".join((folder / file).read_text() for file in files).split()
        if float(quota) > 0 and float(period) > 0:
            return float(quota) / float(period)
    except (OSError, ValueError):  # Not there, or "max".
        pass
    return math.inf
