"""README is one look long, and pages for readers are plain English."""

import re
from pathlib import Path

import pytest

from tests.markdown import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "config/compose/README.md", *sorted(ROOT.glob("docs/*.md"))]


def words_of_sentences(text: str) -> list[int]:
    """Return how many words each sentence has; code, tables and headings are none."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks = re.sub(r"^ *(?:\||#|<!--).*$", "", text, flags=re.MULTILINE).split("\n\n")
    items = [item for block in blocks for item in re.split(r"^ *(?:- |\d+\. )", block, flags=re.M)]
    plain = [re.sub(r"\]\([^)]*\)|[*`\[\]]", "", " ".join(item.split())) for item in items]
    sentences = [one for item in plain for one in re.split(r"(?<=[.?!:])\s+(?=[A-Z])", item)]
    return [len(one.split()) for one in sentences if one]


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 120


@pytest.mark.parametrize("document", PAGES, ids=lambda document: str(document.relative_to(ROOT)))
def test_a_sentence_has_some_twenty_words(document: Path) -> None:
    words = words_of_sentences(document.read_text())
    if words:
        assert sum(words) / len(words) <= 20
        assert max(words) <= 45


def test_sentences_are_counted() -> None:
    text = "# Head\n\nOne two three. Four `five`:\n\n- Six [seven](a.md#b) eight\n\n"
    text += "```\nnot\n```\n| a |\n   | b |\n"
    assert words_of_sentences(text) == [3, 2, 3]


@pytest.mark.parametrize("document", PAGES, ids=lambda document: str(document.relative_to(ROOT)))
def test_what_belongs_to_a_step_is_indented_by_four(document: Path) -> None:
    """With less the site's Markdown ends the list there, and the next step is number 1 again."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\n\n( {1,3}\S.*)|^( {1,3}- .*)", text, re.MULTILINE) == []
