"""Hooks of mkdocs: links to the whole repository, GitHub's lists, a folder for each version."""

import json
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel
from packaging.version import Version

from sidecar import __version__
from tests.documents.links import DOCS, ROOT, external_requests, outside, place, rewritten
from tests.documents.lists import site_lists


def on_config(config: Any) -> None:
    """Say which version the site is about."""
    config.extra["version"] = {"provider": "mike"}
    config.site_name += f" {__version__}"


def on_files(files: Any, config: Any) -> Any:
    """Add README.md as the first page, and what pages link to outside of ``docs/``."""
    home = ROOT / "README.md"
    for file in {home, *outside([home, *DOCS.rglob("*.md")])}:
        if file.suffix == ".md":
            content = rewritten(file.read_text(), file)
            files.append(File.generated(config, place(file), content=content))
            continue
        copied = File.generated(config, place(file), abs_src_path=str(file))
        # mkdocs would leave out files whose names begin with a dot.
        copied.inclusion = InclusionLevel.INCLUDED
        files.append(copied)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn a page's lists, and the links of ``docs/``; those of generated pages are turned."""
    if page.file.generated_by is None:
        markdown = rewritten(markdown, Path(page.file.abs_src_path))
    return site_lists(markdown)


def on_post_build(config: Any) -> None:
    """Fail for a page that loads anything from elsewhere; list the versions beside this one.

    Each folder of a site is named by its version. Raises ``ValueError`` for another one.
    """
    site = Path(config.site_dir)
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        if addresses := external_requests(file.read_text()):
            raise PluginError(f"{file}: external requests: {addresses}")
    folders = [folder for folder in site.parent.iterdir() if (folder / "404.html").exists()]
    names = [folder.name for folder in sorted(folders, key=lambda folder: Version(folder.name))]
    names.reverse()
    versions = [{"version": name, "title": name, "aliases": []} for name in names]
    (site.parent / "versions.json").write_text(json.dumps(versions))
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={names[0]}/">'
    (site.parent / "index.html").write_text(page)
