"""Links of the documents, as the site has them. `make docs` fails for a broken one."""

import re

import pytest

from tests.documents.links import (
    DOCS,
    ROOT,
    external_requests,
    outside,
    rewritten,
)

SITE = (ROOT / "mkdocs.yml").read_text()


def test_each_page_is_in_the_navigation_once() -> None:
    named = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", SITE.partition("\nnav:\n")[2], re.M)
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    pages = {page for page in pages if not re.match(r"decisions/\d", page)}
    assert sorted(name for name in named if not name.startswith("project/")) == sorted(
        pages | {"index.md"}
    )
    for name in named:
        if name.startswith("project/"):
            assert (ROOT / name.removeprefix("project/")).exists(), name


def test_the_examples_are_all_listed() -> None:
    listed = (ROOT / "config/README.md").read_text()
    names = {file.name for file in (ROOT / "config").iterdir()} - {"README.md"}
    assert {name for name in names if not re.search(rf"[\[`]{name}\b", listed)} == set()


def test_the_site_is_strict_and_loads_nothing_from_elsewhere() -> None:
    assert "\nstrict: true\n" in SITE
    assert "\n  font: false" in SITE
    assert re.findall(r"https?://", SITE) == []
    for kind in ("omitted_files", "absolute_links", "unrecognized_links", "anchors", "not_found"):
        assert f"\n  {kind}: warn\n" in SITE
    # With -q mkdocs counts no warnings, and strict is nothing.
    (command,) = re.findall(r"^\t.*mkdocs build.*$", (ROOT / "Makefile").read_text(), re.M)
    assert not re.search(r"\s(-q|--quiet|--no-strict)\b", command)


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("docs/api.md", "limits.md#silent-peers", "limits.md#silent-peers"),
        ("docs/api.md", "../README.md#try", "index.md#try"),
        ("docs/api.md", "../CONTRIBUTING.md", "project/CONTRIBUTING.md"),
        ("docs/api.md", "../config/orthanc.yaml", "project/config/orthanc.yaml"),
        ("docs/api.md", "../config", "project/config/README.md"),
        ("docs/decisions/README.md", "../../LICENSE", "../project/LICENSE"),
        ("README.md", "docs/api.md", "api.md"),
        ("CONTRIBUTING.md", "docs/api.md#a", "../api.md#a"),
        ("CONTRIBUTING.md", "README.md", "../index.md"),
        ("config/compose/README.md", "../../docs/ehr.md", "../../../ehr.md"),
        # None of the repository's: left as they stand, for mkdocs to find fault with.
        ("docs/api.md", "nothing.md", "nothing.md"),
        ("docs/api.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("docs/api.md", "#search", "#search"),
        ("docs/api.md", "../../../../../../etc/passwd", "../../../../../../etc/passwd"),
    ],
)
def test_a_link_leads_to_the_same_file(page: str, link: str, there: str) -> None:
    assert rewritten(f"[x]({link})", ROOT / page) == f"[x]({there})"


def test_what_is_linked_comes_along() -> None:
    """What a page outside links to, as well; nothing else of its folder, where secrets may be."""
    found = outside([DOCS / "upgrade.md"])
    assert {ROOT / name for name in ("CHANGELOG.md", "config/README.md")} <= found
    assert ROOT / "config/orthanc.yaml" in found
    assert not [file for file in found if file.is_relative_to(DOCS) or file.is_dir()]
    assert ROOT / "config/compose/compose.yaml" not in found


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        "<img alt=a src=//cdn.example.org/a.png>",
        '<link rel="stylesheet" href="https://fonts.example.org/css">',
        '<link href="https://fonts.example.org" rel="preconnect">',
        "@font-face { src: url(https://fonts.example.org/a.woff2) }",
        '@import "https://fonts.example.org/css";',
    ],
)
def test_what_is_loaded_from_elsewhere_is_seen(text: str) -> None:
    assert len(external_requests(text)) == 1


def test_what_is_linked_or_beside_is_not_loaded_from_elsewhere() -> None:
    text = (
        '<a href="https://example.org">a</a><img src="../a.png"><script src="b.js"></script>'
        '<link rel="stylesheet" href="c.css"><link rel="canonical" href="https://example.org/">'
        "a { background: url(d.svg) }"
    )
    assert external_requests(text) == []
