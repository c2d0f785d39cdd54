"""Packages are the same bytes twice, and hold what they should."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from release import packages
from release.commands import Refused, run
from release.packages import CHART, chart_package, digest, python_packages
from tests.helm.rendering import helm, rendered, values_of
from tests.release.pins import ROOT

EPOCH = 1796054400


def test_the_chart_is_the_same_bytes_twice_and_renders(tmp_path: Path) -> None:
    shutil.copytree(ROOT / CHART, tmp_path / CHART)
    first = chart_package(tmp_path, tmp_path, EPOCH, "1.2.3-rc.4")
    assert first.name == "smart-imaging-sidecar-1.2.3-rc.4.tgz"
    before = digest(first)
    for file in (tmp_path / CHART).rglob("*"):
        file.touch()
    assert digest(chart_package(tmp_path, tmp_path, EPOCH, "1.2.3-rc.4")) == before
    assert rendered(values_of(), first) == rendered(values_of())


def test_the_chart_leaves_out_what_helm_leaves_out(tmp_path: Path) -> None:
    shutil.copytree(ROOT / CHART, tmp_path / CHART)
    package = chart_package(tmp_path, tmp_path, EPOCH, "1.0.0")
    shutil.unpack_archive(package, tmp_path / "unpacked", format="gztar", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    ours = {file.relative_to(ROOT / CHART).as_posix() for file in (ROOT / CHART).rglob("*.*")}
    left_out = {name for name in ours if name == "README.md" or name.startswith("examples/")}
    assert names == {name for name in ours - left_out if (ROOT / CHART / name).is_file()} - {
        ".helmignore"
    }
    assert len(left_out) > 2
    assert helm.lint(folder, values_of(), strict=True) is not None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/sidecar/page").mkdir(parents=True)
    for name in ("__init__.py", "page/page.css"):
        (tmp_path / "tree/sidecar" / name).write_text("")
    return tmp_path / "tree"


def _builds(monkeypatch: pytest.MonkeyPatch, *wheels: dict[str, str]) -> None:
    """Put builds that make these wheels in place of the real ones; `.ci/run` has those."""
    made = iter(wheels)

    def build(tree: Path, out: Path, *rest: Any) -> None:
        out.mkdir(exist_ok=True)
        (out / "a-1.tar.gz").write_text("an sdist")
        with zipfile.ZipFile(out / "a-1-py3-none-any.whl", "w") as wheel:
            for name, text in next(made).items():
                wheel.writestr(zipfile.ZipInfo(name), text)

    monkeypatch.setattr(packages, "_build", build)
    monkeypatch.setattr(packages, "run", lambda *command: None)


GOOD = {"sidecar/__init__.py": "", "sidecar/page/page.css": "", "a-1.dist-info/RECORD": ""}


def test_good_packages(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _builds(monkeypatch, GOOD, GOOD)
    built = python_packages(tree, tmp_path / "out", EPOCH, tmp_path)
    assert [file.name for file in built] == ["a-1-py3-none-any.whl", "a-1.tar.gz"]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (GOOD, GOOD | {"sidecar/__init__.py": "x"}, r"two builds of a-1-py3-none-any\.whl differ"),
        (GOOD | {"other/a.css": ""}, None, r"differs from sidecar/ in \['other/a\.css'\]"),
        (GOOD | {"sidecar/b.css": ""}, None, r"differs from sidecar/ in \['sidecar/b\.css'\]"),
        ({"sidecar/__init__.py": ""}, None, r"differs .* in \['sidecar/page/page\.css'\]"),
    ],
)
def test_other_packages_are_refused(
    first: dict[str, str],
    second: dict[str, str] | None,
    problem: str,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _builds(monkeypatch, first, second or first)
    with pytest.raises(Refused, match=problem):
        python_packages(tree, tmp_path / "out", EPOCH, tmp_path)


def test_a_failing_command_says_what_it_said() -> None:
    with pytest.raises(Refused, match="ended with 3:\nwhy"):
        run("sh", "-c", "echo why >&2; exit 3")
