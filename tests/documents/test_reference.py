"""docs/reference is what the program says: no row is missing, extra or different."""

import re

import click
import pytest

from sidecar.access.reasons import Reason
from sidecar.cli import main
from sidecar.telemetry.metrics import Metrics
from tests.documents.reference import FOLDER, failures, pages

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_program(name: str) -> None:
    """`python -m tests.documents.reference` writes it anew."""
    assert (FOLDER / name).read_text() == PAGES[name]


def test_there_is_no_other_page() -> None:
    assert {file.name for file in FOLDER.iterdir()} == PAGES.keys()


def test_each_command_option_reason_metric_and_failure_is_there() -> None:
    """They are made by walking, which must lose nothing on the way."""
    for name, command in main.commands.items():
        assert f"\n## smart-imaging-sidecar {name}\n" in PAGES["cli.md"]
        for option in command.params:
            assert isinstance(option, click.Option)
            assert f"| `{option.opts[0]}" in PAGES["cli.md"]
    for reason in Reason:
        assert f"\n| `{reason}` | " in PAGES["errors.md"]
    for family in Metrics("0").registry.collect():
        assert f"| `{family.name}" in PAGES["metrics.md"]
    written = {failure.reason for failure in failures()}
    assert len(written) > 70
    # One of each form: a constant, a text with a part that differs, a text that has a name.
    assert {"pacs_warming", "policy_…", "query_character_set"} <= written
    assert re.findall(r"^\| `[^`]+` \| \d+ \| (…|) \|$", PAGES["errors.md"], re.MULTILINE) == []


def test_each_route_says_what_it_is() -> None:
    rows = re.findall(r"^\| `(/\S*)` \| (.+) \|$", PAGES["routes.md"], re.MULTILINE)
    assert len(rows) > 15
    for path, cells in rows:
        assert cells.rpartition("| ")[2].strip(), path
