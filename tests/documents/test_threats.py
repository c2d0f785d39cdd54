"""docs/threats.md names a test against each threat, and each exists."""

import re

from tests.markdown import ROOT

TEXT = (ROOT / "docs/threats.md").read_text()
ROWS = [
    [cell.strip() for cell in row.split(" | ")]
    for row in re.findall(r"^\| (?!threat |---)(.*) \|$", TEXT, re.MULTILINE)
]


def test_each_threat_has_an_answer_and_tests_that_exist() -> None:
    assert len(ROWS) > 45
    for threat, answer, tests in ROWS:
        assert threat
        assert answer, threat
        for reference in tests.split(", "):
            file, _, name = reference.partition("::")
            path = ROOT / file
            assert path.is_file(), reference
            assert re.search(rf"def {name}\(", path.read_text()), reference


def test_each_threat_stands_once() -> None:
    threats = [row[0] for row in ROWS]
    assert len(set(threats)) == len(threats)
