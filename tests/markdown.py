"""Documents as their readers have them: links, and the commands and files that they name."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    document
    for folder in ("", ".github", "bench/results", "config/**", "docs/**", "helm/**")
    for document in ROOT.glob(f"{folder}/*.md".lstrip("/"))
)
_OURS = re.compile(r"(?:\.ci|\.github|bench|config|docs|helm|sidecar|tests)/[\w./-]*\w")


@cache
def anchors(document: Path) -> frozenset[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return frozenset(
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
    )


def broken_links(document: Path) -> Iterator[str]:
    """Yield the links to what is not in the repository, or not in the document there."""
    for target in re.findall(r"\]\(([^):]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        linked = document.parent / path if path else document
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            yield target


def targets_named(text: str) -> set[str]:
    """Return what the text would have ``make`` make."""
    return set(re.findall(r"\bmake (?!VENV|ARGS)([a-z][a-z-]*)", _code(text)))


def subcommands_named(text: str) -> set[str]:
    """Return the subcommands of ``smart-imaging-sidecar``."""
    return set(re.findall(r"\bsmart-imaging-sidecar ([a-z]+)", _code(text)))


def files_named(text: str) -> set[str]:
    """Return the files and folders of ours, those of ``python -m`` among them."""
    code = _code(text)
    modules = re.findall(r"python -m ((?:tests|bench|sidecar)[\w.]*)", code)
    paths = (name for span in code.splitlines() for name in re.findall(r"^\S+", span))
    named = {name for path in paths if (name := path.partition("::")[0]) and _OURS.fullmatch(name)}
    return named | {module.replace(".", "/") + ".py" for module in modules}


def snippet(document: Path, first_line: str) -> str:
    """Return the piece of code that begins with a line."""
    pieces = re.findall(r"^```\w+\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = (piece for piece in pieces if piece.startswith(first_line + "\n"))
    return str(found)


def _code(text: str) -> str:
    """Return what stands in code, a line for each piece."""
    return "\n".join(
        piece.strip("`") for piece in re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL)
    )
