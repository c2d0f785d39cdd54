"""The site shows a list where GitHub shows one."""

import pytest

from tests.documents.lists import site_lists

# GitHub's form, and Python-Markdown's. Each was seen to be shown alike.
FORMS = {
    "a list below its paragraph": ("Access:\n- one\n- two", "Access:\n\n- one\n- two"),
    "a step after a step of two paragraphs": (
        "1. Write.\n\n   Why\n   so.\n2. Go",
        "1. Write.\n\n    Why\n    so.\n\n2. Go",
    ),
    "a list in a step": (
        "1. Two:\n   - one\n     more\n   - two\n2. Go",
        "1. Two:\n    - one\n        more\n    - two\n2. Go",
    ),
    "a list in a list": ("- Gone:\n  - a\n\n  - b\n- c", "- Gone:\n    - a\n\n    - b\n\n- c"),
    "code in a step": (
        "1. Write:\n\n   ```yaml\n   a:\n     - b\n\n   c: 1\n   ```\n\n2. Go",
        "1. Write:\n\n    ```yaml\n    a:\n      - b\n\n    c: 1\n    ```\n\n2. Go",
    ),
    "code right below a line of a step": (
        "- Run\n  ```sh\n  x\n  ```\n\nEnd",
        "- Run\n    ```sh\n    x\n    ```\n\nEnd",
    ),
    "code of its own": ("```\n- a\n  1. b\ntext\n- c\n```", "```\n- a\n  1. b\ntext\n- c\n```"),
    "a paragraph after a list": ("- a\n\nNo\nlist", "- a\n\nNo\nlist"),
    "a line that goes on at the margin": ("- a\nb\n- c", "- a\n    b\n- c"),
    "a line that begins with a number": (
        "It is a\n400. Then\n- so\n  9090. And",
        "It is a\n400\\. Then\n\n- so\n    9090\\. And",
    ),
    "ten steps": ("9. a\n\n   b\n10. c\n\n    d", "9. a\n\n    b\n\n10. c\n\n    d"),
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_are_as_on_github(form: str) -> None:
    text, expected = FORMS[form]
    assert site_lists(text) == expected
