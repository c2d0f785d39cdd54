"""The documents of those who join: what they name exists, and CI runs what they say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import __version__
from sidecar.cli import main
from tests.markdown import ROOT, files_named, subcommands_named, targets_named
from tests.schemas import valid

GITHUB = ROOT / ".github"
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml"))
WORKFLOW = GITHUB / "workflows/ci.yml"
RELEASE = GITHUB / "workflows/release.yml"
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("CODE_OF_CONDUCT", "CONTRIBUTING", "README", "SECURITY")),
    ROOT / "docs/upgrade.md",
    GITHUB / "pull_request_template.md",
    *FORMS,
]


def _workflow() -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
    return document


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_what_is_named_exists(document: Path) -> None:
    text = document.read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert targets_named(text) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert subcommands_named(text) <= set(main.commands)
    assert [name for name in files_named(text) if not (ROOT / name).exists()] == []


def test_names_are_seen() -> None:
    """So that the test above can fail."""
    text = (
        "`make x ARGS=a`, `smart-imaging-sidecar y`, `tests/waiting.py::test` and\n```\nmake u\n```"
    )
    assert targets_named(text) == {"x", "u"}
    assert subcommands_named(text) == {"y"}
    assert files_named(text + " `python -m tests.mutants`") == {
        "tests/waiting.py",
        "tests/mutants.py",
    }


def test_the_workflow_runs_ci_with_least_rights() -> None:
    done = valid("github-workflows", WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr
    workflow = _workflow()
    # YAML 1.1 takes `on` for true.
    assert workflow[True] == {"push": {"branches": ["main"]}, "pull_request": None}
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in WORKFLOW.read_text()
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", name)] == []
    (checkout,) = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
    assert checkout["with"] == {"persist-credentials": False}


def test_the_workflow_has_both_pythons_and_go() -> None:
    """On Debian 12 the image's comes with the container, and the oldest is Debian's."""
    image = re.findall(r"^FROM python:([\d.]+)-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    oldest = re.findall(
        r'^requires-python = ">=([\d.]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    (job,) = _workflow()["jobs"].values()
    assert job["container"]["image"] == f"python:{image[-1]}-bookworm"
    assert any(f"python{oldest[0]}-venv" in step.get("run", "") for step in job["steps"])
    (go,) = [step["with"] for step in job["steps"] if "setup-go" in step.get("uses", "")]
    assert (ROOT / go["go-version-file"]).exists()
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"Python {oldest[0]}, Python {image[-1]} and a Go of" in contributing


def test_the_release_workflow_publishes_nothing() -> None:
    """It reads the sources and keeps what it made as artefacts of its run."""
    done = valid("github-workflows", RELEASE)
    assert done.returncode == 0, done.stdout + done.stderr
    workflow = yaml.safe_load(RELEASE.read_text())
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in RELEASE.read_text()
    assert not re.search(r"\b(docker push|twine upload|helm push|git push)\b", RELEASE.read_text())
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", name)] == []
    assert used[-1].startswith("actions/upload-artifact@")
    assert job["steps"][-2]["run"].startswith("make release ARGS=")
    assert job["steps"][-1]["with"]["path"] == "build/release"


def test_the_forms_are_forms() -> None:
    done = valid("github-issue-forms", *FORMS)
    assert done.returncode == 0, done.stdout + done.stderr
    done = valid("github-issue-config", GITHUB / "ISSUE_TEMPLATE/config.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    # Else an issue could begin without what each form says first.
    config = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE/config.yml").read_text())
    assert config["blank_issues_enabled"] is False


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_each_form_says_what_must_not_be_in_it(form: Path) -> None:
    """First, and once more in a box without which nothing is sent."""
    first, *_, last = yaml.safe_load(form.read_text())["body"]
    assert first["type"] == "markdown"
    assert "**no tokens," in first["attributes"]["value"].lower()
    assert "**no patient data**" in first["attributes"]["value"]
    (box,) = last["attributes"]["options"]
    assert box["required"] is True
    assert "no token" in box["label"]
    assert "no patient data" in box["label"]


def test_there_are_forms() -> None:
    assert {form.stem for form in FORMS} == {"archive-or-ehr", "bug", "feature"}


def test_what_has_owners_exists() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text().splitlines()
    paths = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path.strip("/")).exists()] == []


def test_each_version_of_the_changes_has_fixes_or_none() -> None:
    """tests/release/ holds the last one to ``__version__``."""
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]
    security = (ROOT / "SECURITY.md").read_text()
    assert re.findall(r"^\| (\d\S*) \| no: ", security, re.MULTILINE) == versions[2:]
    for document in ("SECURITY.md", "docs/upgrade.md"):
        assert __version__ in (ROOT / document).read_text()
