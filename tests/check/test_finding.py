"""The report as people and machines read it."""

import json

from sidecar.check.finding import State, as_json, failure, has_failed, ok, skipped, table, warning

FINDINGS = [
    ok("pacs.query", "fine"), warning("server.public_url", "http", "write https"),
    failure("x", "long " * 40, "mend it " * 30), skipped("token", "none"),
]  # fmt: skip


def test_the_table_fits_a_terminal_and_ends_with_counts() -> None:
    lines = table(FINDINGS).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "ok    pacs.query         fine"
    assert lines[2].strip() == "-> write https"
    assert lines[-1] == "1 ok, 1 warn, 1 FAIL, 1 skip"


def test_the_json_says_the_same() -> None:
    document = json.loads(as_json(FINDINGS))
    assert document["ok"] is False
    assert [one["state"] for one in document["findings"]] == ["ok", "warn", "fail", "skip"]
    assert document["findings"][0] == {"name": "pacs.query", "state": "ok", "text": "fine", "hint": None}


def test_only_a_failure_fails() -> None:
    assert has_failed(FINDINGS)
    assert not has_failed([one for one in FINDINGS if one.state is not State.FAIL])
