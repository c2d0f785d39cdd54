"""The folder that workers share goes with them, and after them."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sidecar.server import shared_folder as module
from sidecar.server.command import serve
from sidecar.server.shared_folder import shared_folder


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_MEMORY", tmp_path)
    return tmp_path


def test_it_is_there_while_it_is_used(memory: Path) -> None:
    with shared_folder() as folder:
        assert folder.parent == memory
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("x")
    assert list(memory.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_no_other(memory: Path) -> None:
    left = memory / "smart-imaging-sidecar-left"
    left.mkdir()
    (left / "file").write_text("x")
    other = memory / "another-program"
    other.mkdir()
    with shared_folder() as first, shared_folder() as second:
        assert sorted(memory.iterdir()) == sorted([first, second, other])


def test_a_child_holds_it_when_its_parent_is_gone(memory: Path) -> None:
    """A worker ends its transfers after its supervisor was killed."""
    begin, end = os.pipe()
    with shared_folder() as first:
        child = os.fork()
        if child == 0:
            os.close(end)
            os.read(begin, 1)
            os._exit(0)
        os.close(begin)
        first.rename(memory / "smart-imaging-sidecar-kept")  # So that leaving removes nothing.
    with shared_folder():
        assert (memory / "smart-imaging-sidecar-kept").exists()
    os.close(end)
    os.waitpid(child, 0)
    with shared_folder():
        assert not (memory / "smart-imaging-sidecar-kept").exists()


def test_without_memory_it_is_a_temporary_folder(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMORY", memory / "absent")
    monkeypatch.setattr("tempfile.tempdir", str(memory))
    with shared_folder() as folder:
        assert folder.parent == memory


def test_without_room_in_memory_it_is_a_temporary_folder(
    memory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another program may have filled it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    monkeypatch.setattr(module, "LEAST_BYTES", 2**63)
    with shared_folder() as folder:
        assert folder.parent == elsewhere


def test_another_that_starts_at_the_same_moment_leaves_it(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no lock at first."""
    make = tempfile.mkdtemp

    def make_while_another_starts(**options: Any) -> str:
        made: str = make(**options)
        monkeypatch.setattr("tempfile.mkdtemp", make)
        with shared_folder():
            pass
        return made

    monkeypatch.setattr("tempfile.mkdtemp", make_while_another_starts)
    with shared_folder() as folder:
        assert list(memory.iterdir()) == [folder]


def test_where_none_can_be_made_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> str:
        raise OSError(errno.EROFS, "Read-only file system", "/tmp/x")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    (problem,) = serve([])
    assert problem == "no folder that workers can share: /tmp/x: Read-only file system"
