"""What a page of ``docs/`` links to, and where that stands in the site.

On GitHub a link leads to any file of the repository. In the site a file from outside ``docs/``
stands below ``project/``; README.md is the first page.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PROJECT = "project"
HOME = "index.md"
_LINK = re.compile(r"(\]\()([^):#\s]+)(#[^)\s]*)?(?=\))")
# What a browser loads by itself. A link that somebody clicks is not among it.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|embed|object)\b"
    r"[^>]*?\s(?:src|data)=[\"']?((?:https?:)?//[^\"' >]+)"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|icon|preload|preconnect|dns-prefetch))"
    r"[^>]*?href=[\"']?((?:https?:)?//[^\"' >]+)"
    r"|(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"') ]+)",
    re.IGNORECASE,
)


def place(file: Path) -> str:
    """Return the path of ``file`` among the sources of the site."""
    if file == ROOT / "README.md":
        return HOME
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS).as_posix()
    return f"{PROJECT}/{file.relative_to(ROOT).as_posix()}"


def target(page: Path, path: str) -> Path | None:
    """Return the file that a link of ``page`` leads to; a folder's is its README.md, as on GitHub.

    None: it is none of the repository's.
    """
    file = Path(os.path.normpath(page.parent / path))
    if file.is_dir():
        file /= "README.md"
    return file if file.is_file() and file.is_relative_to(ROOT) else None


def outside(pages: Iterable[Path]) -> set[Path]:
    """Return what ``pages`` link to outside of ``docs/``, and what that links to there."""
    found: set[Path] = set()
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        files = {target(page, path) for _, path, _ in _LINK.findall(page.read_text())}
        new = {file for file in files if file and not file.is_relative_to(DOCS)} - found
        found |= new
        waiting += [file for file in new if file.suffix == ".md"]
    return found


def rewritten(text: str, page: Path) -> str:
    """Return the text of ``page`` with each link as the site needs it."""
    here = PurePosixPath(place(page)).parent

    def link(found: re.Match[str]) -> str:
        file = target(page, found[2])
        if file is None:
            return found[0]
        return found[1] + os.path.relpath(place(file), here) + (found[3] or "")

    return _LINK.sub(link, text)


def external_requests(text: str) -> list[str]:
    """Return the addresses elsewhere that a browser asks for when it shows ``text``."""
    return [next(filter(None, groups)) for groups in _LOADED.findall(text)]
