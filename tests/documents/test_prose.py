"""README is one look long, and pages for readers are plain English."""

import re
from pathlib import Path

import pytest

from tests.markdown import ROOT

README = ROOT / "README.md"
NAMES = ["apps", "authorization", "comparison", "data-protection", "ehr", "faq"]
NAMES += ["glossary", "limits", "operations", "runbook", "threats"]
NEW = [README, *(ROOT / "docs" / f"{name}.md" for name in NAMES)]


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


@pytest.mark.parametrize("document", NEW, ids=lambda document: document.name)
def test_a_sentence_has_some_twenty_words(document: Path) -> None:
    words = words_of_sentences(document.read_text())
    if words:
        assert sum(words) / len(words) <= 20
        assert max(words) <= 45


def test_sentences_are_counted() -> None:
    text = "# Head\n\nOne two three. Four `five`:\n\n- Six [seven](a.md#b) eight\n\n"
    text += "```\nnot\n```\n| a |\n   | b |\n"
    assert words_of_sentences(text) == [3, 2, 3]
