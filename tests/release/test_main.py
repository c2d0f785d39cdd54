"""A dry run changes nothing; a tag is made last, of what is committed, and when it is asked for."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from release import __main__ as program
from release.commands import Refused, git
from release.packages import CHART
from sidecar import __version__
from tests.release.pins import ROOT

FILES = ("sidecar/__init__.py", "CHANGELOG.md", "SECURITY.md", "config/compose/compose.yaml")
TAG = f"v{__version__}"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository without open points. What needs packages of an index is left out."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / CHART, folder / CHART)
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    changes = folder / "CHANGELOG.md"
    empty = re.sub(
        r"^## Unreleased\n(?:(?!## ).*\n)*", "## Unreleased\n\n", changes.read_text(), flags=re.M
    )
    changes.write_text(empty)
    git(folder, "init", "-q")
    git(folder, "config", "user.name", "a")
    git(folder, "config", "user.email", "a@example.org")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "--no-verify", "-m", "first")

    def packages(tree: Path, out: Path, *rest: Any) -> list[Path]:
        (out / "a.whl").write_text((tree / "SECURITY.md").read_text())
        return [out / "a.whl"]

    monkeypatch.setattr(program, "ROOT", folder)
    monkeypatch.setattr(program, "python_packages", packages)
    monkeypatch.setattr(program, "bill_of_materials", lambda *files: files[2].write_text("{}"))
    return folder


def test_a_dry_run_tags_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = repository.parent / "out"
    assert program.main(["--out", str(out)]) == 0
    assert {file.suffix for file in out.iterdir()} == {".whl", ".tgz", ".json", ""}
    assert git(repository, "tag") == git(repository, "status", "--porcelain") == ""
    assert f"a dry run: there is no tag {TAG}\n" in capsys.readouterr().out


def test_the_tag_is_of_the_commit(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--tag", "--out", str(repository.parent / "out")]) == 0
    assert git(repository, "rev-parse", f"{TAG}^{{commit}}") == git(repository, "rev-parse", "HEAD")
    assert f"git push origin {TAG}" in capsys.readouterr().out
    assert program.main(["--tag", "--out", str(repository.parent / "out")]) == 1
    assert f"the tag {TAG} exists" in capsys.readouterr().err


def test_what_is_not_committed_is_in_no_package(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    committed = (repository / "SECURITY.md").read_text()
    (repository / "SECURITY.md").write_text("mine")
    out = repository.parent / "out"
    assert program.main(["--out", str(out)]) == 0
    assert "before a tag: the working tree has changes" in capsys.readouterr().out
    assert (out / "a.whl").read_text() == committed
    assert program.main(["--tag", "--out", str(out)]) == 1
    assert git(repository, "tag") == ""


def test_a_release_that_fails_gets_no_tag(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise Refused("the wheel does not run")

    monkeypatch.setattr(program, "bill_of_materials", fails)
    assert program.main(["--tag", "--out", str(repository.parent / "out")]) == 1
    assert capsys.readouterr().err == "release: the wheel does not run\n"
    assert git(repository, "tag") == ""


def test_places_of_the_version_that_differ_stop_it(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = repository / "config/compose/compose.yaml"
    file.write_text(file.read_text().replace(__version__, "9.9.9"))
    git(repository, "commit", "-q", "-a", "--no-verify", "-m", "second")
    assert program.main(["--out", str(repository.parent / "out")]) == 1
    assert (
        f"config/compose/compose.yaml: 9.9.9, where {__version__} goes" in capsys.readouterr().err
    )
    assert not (repository.parent / "out").exists()
