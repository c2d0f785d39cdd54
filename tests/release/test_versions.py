"""Everything that names the version names one, or `make release` stops."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from release.versions import differences, not_yet, semver, version_of
from sidecar import RELEASED, __version__
from tests.release.pins import ROOT

CHART = "helm/smart-imaging-sidecar/Chart.yaml"
INIT = "sidecar/__init__.py"
FILES = (INIT, CHART, "CHANGELOG.md", "SECURITY.md", "config/compose/compose.yaml")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def test_ours_are_the_same() -> None:
    assert differences(ROOT) == []
    assert version_of(ROOT) == __version__


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.0.0", "1.0.0"),
        ("1.0.0rc1", "1.0.0-rc.1"),
        ("12.3.4a10", "12.3.4-alpha.10"),
        ("0.1.0b2", "0.1.0-beta.2"),
    ],
)
def test_semver(version: str, expected: str) -> None:
    assert semver(version) == expected


@pytest.mark.parametrize(
    "version", ["1.0", "v1.0.0", "1.0.0-rc.1", "1.0.0.post1", "1.0.0+ours", ""]
)
def test_other_versions_are_refused(version: str, tree: Path) -> None:
    with pytest.raises(ValueError, match=r"is not like 1\.2\.3 or 1\.2\.3rc1"):
        semver(version)
    if version:
        file = tree / INIT
        file.write_text(file.read_text().replace(f'"{__version__}"', f'"{version}"'))
        (problem,) = differences(tree)
        assert problem.startswith(f"{INIT}: {version} is not")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (CHART, f"\nversion: {semver(__version__)}", f"\nversion: {__version__}"),
        (CHART, f"appVersion: {__version__}", "appVersion: 9.9.9"),
        (INIT, RELEASED, "2001-01-01"),
        ("CHANGELOG.md", f"## {__version__} — {RELEASED}", f"## {__version__}"),
        ("CHANGELOG.md", f"## {__version__} — {RELEASED}\n", ""),
        ("SECURITY.md", f"| {__version__} | yes", f"| {__version__} | no"),
        ("config/compose/compose.yaml", f"SIDECAR_VERSION:-{__version__}", "SIDECAR_VERSION:-9"),
    ],
)
def test_a_difference_is_named(file: str, old: str, new: str, tree: Path) -> None:
    text = (tree / file).read_text()
    assert old in text
    (tree / file).write_text(text.replace(old, new, 1))
    (problem,) = differences(tree)
    assert problem.partition(":")[0] == ("CHANGELOG.md" if file == INIT else file)


def test_every_place_is_held() -> None:
    """What has the version is in the checks above, or is a text about it."""
    texts = {
        "docs/field-reports.md",
        "docs/kubernetes.md",
        "docs/release.md",
        "docs/upgrade.md",
        "config/compose/README.md",
    }
    listed = subprocess.run(
        ["git", "grep", "-lF", __version__, "--", ":!tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no repository")
    assert set(listed.stdout.split()) == {*FILES, *texts}


def _repository(tree: Path) -> None:
    for command in (
        "init -q",
        "add .",
        "-c user.name=a -c user.email=a@example.org commit -qm first",
    ):
        subprocess.run(["git", *command.split()], cwd=tree, check=True)


def test_what_forbids_a_tag(tree: Path) -> None:
    changes = (tree / "CHANGELOG.md").read_text()
    empty = re.sub(r"^## Unreleased\n(?:(?!## ).*\n)*", "## Unreleased\n\n", changes, flags=re.M)
    (tree / "CHANGELOG.md").write_text(empty)
    _repository(tree)
    assert list(not_yet(tree, "v1")) == []
    subprocess.run(["git", "tag", "v1"], cwd=tree, check=True)
    (tree / "CHANGELOG.md").write_text(
        empty.replace("## Unreleased\n", "## Unreleased\n\n- One.\n")
    )
    assert [point.partition(";")[0] for point in not_yet(tree, "v1")] == [
        "the working tree has changes that are not committed",
        "the tag v1 exists",
        "CHANGELOG.md has changes under Unreleased: they belong under the version",
    ]
