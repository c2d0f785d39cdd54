"""The documents say what is true: conformance rows, routes, metrics."""

import re
from pathlib import Path

import pytest

from sidecar.access.reasons import Reason
from sidecar.telemetry.metrics import Metrics
from tests.markdown import DOCUMENTS, ROOT, broken_links
from tests.tables.conformance_mutations import MUTATIONS
from tests.tables.requirements import GUIDE, LEVELS


def test_every_requirement_has_a_row_and_its_tests_exist() -> None:
    text = (ROOT / "docs/conformance.md").read_text()
    assert "commit `{}` (late {})".format(*GUIDE) in text
    rows = re.findall(r"^\| SIA-(\d+) \|(.*)\|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == sorted(LEVELS)
    for number, row in rows:
        _, level, state, _, shown_by = (cell.strip() for cell in row.split("|"))
        assert level == LEVELS[int(number)], number
        assert state in ("met", "partly", "not yet"), number
        for reference in filter(None, shown_by.split(", ")):
            file, _, name = reference.partition("::")
            assert f"def {name}" in (ROOT / file).read_text(), reference


def test_each_requirement_is_taken_out_once() -> None:
    """By a change that still fits, for a test that the requirement's row names."""
    rows = dict(
        re.findall(r"^\| SIA-(\d+) \|(.*)\|$", (ROOT / "docs/conformance.md").read_text(), re.M)
    )
    assert {mutation.number for mutation in MUTATIONS} == set(LEVELS)
    for mutation in MUTATIONS:
        assert mutation.test in re.split(r"[ ,|]+", rows[str(mutation.number)]), mutation.name
        assert (ROOT / "sidecar" / mutation.file).read_text().count(mutation.old) == 1, mutation


def test_metrics_and_reasons_of_operations_exist() -> None:
    """The reference has all of them (tests/documents/test_reference.py)."""
    text = (ROOT / "docs/operations.md").read_text()
    metrics, refusals = (
        set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", part, re.MULTILINE))))
        for part in (
            text.partition("## Metrics")[2].partition("\n### ")[0],
            text.partition("### Refusals that look alike")[2].partition("\n## ")[0],
        )
    )
    families = Metrics("0").registry.collect()
    assert len(metrics) > 20
    assert metrics <= {
        family.name.removeprefix("smart_imaging_") + "_total" * (family.type == "counter")
        for family in families
    }
    assert len(refusals) > 10
    assert refusals <= {str(reason) for reason in Reason}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_work(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_documents_and_broken_links_are_found(tmp_path: Path) -> None:
    """So that the test above can fail."""
    assert len(DOCUMENTS) > 80
    document = tmp_path / "a.md"
    document.write_text("# One, two\n[a](#one-two) [b](#two) [c](a.md#one) [d](b.md) [e](a.md)")
    assert list(broken_links(document)) == ["#two", "a.md#one", "b.md"]


def test_field_reports_name_threads_tests_and_versions() -> None:
    rows = re.findall(
        r"^\| (?!Reported|---)(.*) \|$", (ROOT / "docs/field-reports.md").read_text(), re.MULTILINE
    )
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert len(rows) >= 25
    for row in rows:
        _, where, _, test, since = row.split(" | ")
        for name, number, address in re.findall(r"\[([^\]#]*)#([0-9]+)\]\(([^)]*)\)", where):
            assert re.fullmatch(
                f"https://github.com/{re.escape(name)}/(issues|pull)/{number}", address
            ), row
        assert where == "seen on it" or re.search(r"\[[^\]]+#[0-9]+\]\(", where), row
        assert since in versions, row
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), row
