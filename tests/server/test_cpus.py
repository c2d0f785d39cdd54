"""The CPUs that affinity and the cgroup grant."""

import os
from pathlib import Path

import pytest

from sidecar.server.cpus import granted_cpus


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 4),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "900000 100000\n"}, 4),
        ({"cpu.max": "nonsense"}, 4),
        ({"cpu.max": ""}, 4),
        ({"cpu.max": "100000 0"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
    ids=str,
)
def test_granted_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert granted_cpus(tmp_path, tmp_path / "own") == cpus


@pytest.mark.parametrize(
    ("own", "cpus"),
    [
        ("0::/\n", 4),
        ("0::/system.slice/sidecar.service\n", 2),
        ("0::/system.slice/other.service\n", 3),
        ("1:cpu:/system.slice/sidecar.service\n", 4),
        ("0::/../sidecar.service\n", 4),
        ("0::/gone.slice\n", 4),
        ("", 4),
    ],
)
def test_the_quota_of_a_unit_or_of_its_slice_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, cpus: int
) -> None:
    """As systemd has it, by CPUQuota=; there the root has no quota."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    unit = tmp_path / "system.slice" / "sidecar.service"
    unit.mkdir(parents=True)
    (unit / "cpu.max").write_text("200000 100000\n")
    (unit.parent / "cpu.max").write_text("300000 100000\n")
    (tmp_path / "own").write_text(own)
    assert granted_cpus(tmp_path, tmp_path / "own") == cpus
