"""Whether everything that names the version names the same one, and what forbids a tag."""

import re
from collections.abc import Iterator
from pathlib import Path

from release.commands import git

# What we use of PEP 440: a version, or one before it.
_VERSION = re.compile(r"(\d+\.\d+\.\d+)(?:(a|b|rc)(\d+))?")
_SEMVER_NAMES = {"a": "alpha", "b": "beta", "rc": "rc"}


def semver(version: str) -> str:
    """Return a version of PEP 440 as SemVer writes it, for Helm: 1.2.3rc4 is 1.2.3-rc.4.

    Raises ValueError for a version that is none of ours (a post-release, a local version).
    """
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ValueError(f"{version} is not like 1.2.3 or 1.2.3rc1")
    number, kind, count = found.groups()
    return f"{number}-{_SEMVER_NAMES[kind]}.{count}" if kind else number


def version_of(tree: Path) -> str:
    """Return the version that the sources of ``tree`` name."""
    return _only(tree / "sidecar/__init__.py", r'^__version__ = "(.+)"$')


def differences(tree: Path) -> list[str]:
    """Return a line for each place in ``tree`` that does not go with its version."""
    version = version_of(tree)
    try:
        for_helm = semver(version)
    except ValueError as problem:
        return [f"sidecar/__init__.py: {problem}"]
    chart = "helm/smart-imaging-sidecar/Chart.yaml"
    released = _only(tree / "sidecar/__init__.py", r'^RELEASED = "(.+)"$')
    wanted = [
        (chart, r"^version: (\S+)", for_helm),
        (chart, r"^appVersion: (\S+)", version),
        ("CHANGELOG.md", r"^## (?!Unreleased$)(.+)$", f"{version} — {released}"),
        ("SECURITY.md", r"^\| (\d\S*) \| yes", version),
        ("config/compose/compose.yaml", r"\{SIDECAR_VERSION:-(.+?)\}", version),
    ]
    found = [(file, _first(tree / file, pattern), text) for file, pattern, text in wanted]
    return [f"{file}: {was}, where {text} goes" for file, was, text in found if was != text]


def not_yet(repository: Path, tag: str) -> Iterator[str]:
    """Yield what has to be done in a repository before it gets this tag."""
    if git(repository, "status", "--porcelain"):
        yield "the working tree has changes that are not committed"
    if git(repository, "tag", "--list", tag):
        yield f"the tag {tag} exists; the next version needs a number"
    if _only(repository / "CHANGELOG.md", r"^## Unreleased\n((?:(?!## ).*\n)*)").strip():
        yield "CHANGELOG.md has changes under Unreleased: they belong under the version"


def _first(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    return found[1] if found else "nothing"


def _only(file: Path, pattern: str) -> str:
    (found,) = re.findall(pattern, file.read_text(), re.MULTILINE)
    return str(found)
