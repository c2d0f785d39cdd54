"""Each rule of the code has a kind of file, and the page has each rule and kind."""

import ast
import re
from pathlib import Path

import sidecar
from tests.tables.file_kinds import KINDS

RULES_PAGE = Path(__file__).parents[2] / "docs" / "files.md"


def rules_in_the_code() -> set[str]:
    """Each rule by which the package refuses a file; ``…`` stands for an element's name."""
    found = set()
    for file in Path(sidecar.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "Unreadable",
                "TwoReadings",
            ):
                (rule,) = node.args
                assert isinstance(rule, ast.Constant | ast.BinOp)
                found.add(
                    ast.literal_eval(rule)
                    if isinstance(rule, ast.Constant)
                    else "…" + ast.literal_eval(rule.right)
                )
    return found


def test_each_rule_has_a_kind() -> None:
    """A rule that nothing in the table shows is one that nobody has judged."""
    shown = {rule for kind in KINDS.values() for rule in kind.rule.split(" or ")}
    rules = rules_in_the_code()
    assert len(rules) > 20
    for rule in rules:
        assert any(one == rule or (rule[0] == "…" and one.endswith(rule[1:])) for one in shown), (
            rule
        )


def test_the_page_has_each_kind_and_each_rule() -> None:
    page = RULES_PAGE.read_text()
    rows = [
        f"| {name} | {' or '.join(f'`{rule}`' for rule in rules)} | {kind.why} |"
        if (rules := kind.rule.split(" or ") if kind.rule else [])
        else f"| {name} | passes | {kind.why} |"
        for name, kind in KINDS.items()
    ]
    assert [row for row in rows if row not in page.splitlines()] == []
    assert len(re.findall(r"^\| .* \| (?:passes|`\w+`.*) \| .* \|$", page, re.MULTILINE)) == len(
        rows
    )
