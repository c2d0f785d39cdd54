"""The CPUs that this process may use."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def granted_cpus(root: Path = _CGROUPS) -> int:
    """Return the CPUs that affinity and the cgroup grant, rounded up; at least 1.

    ``root``: where the cgroup's files are (version 2, or version 1).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min(affinity or 1, _quota(root))))


def _quota(root: Path) -> float:
    """Return the CPUs of the cgroup's quota, or infinity without one."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((root / file).read_text() for file in files).split()
            if float(quota) > 0 and float(period) > 0:
                return float(quota) / float(period)
        except (OSError, ValueError):  # Not there, or "max".
            continue
    return math.inf
