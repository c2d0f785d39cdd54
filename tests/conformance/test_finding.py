"""The report as people and machines read it."""

import json

from sidecar.conformance.finding import Finding, State, as_json, has_failed, table
from sidecar.conformance.levels import BASE

FINDINGS = [
    Finding("pacs.query", State.OK, "fine"),
    Finding("server.public_url", State.WARN, "http", "write https"),
    Finding("x", State.FAIL, "long " * 40, "mend it " * 30),
    Finding("token", State.SKIP, "none"),
]


def test_the_table_fits_a_terminal_and_ends_with_counts() -> None:
    lines = table(FINDINGS).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "ok    pacs.query         fine"
    assert lines[2].strip() == "-> write https"
    assert lines[-1] == "1 ok, 1 warn, 1 FAIL, 1 skip"


def test_a_long_name_has_its_text_below() -> None:
    long = Finding("SIA-20 a search for the patient's studies", State.FAIL, "long " * 40, "mend it")
    lines = table([long, *FINDINGS]).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "FAIL  SIA-20 a search for the patient's studies"
    assert lines[1].startswith(" " * 13 + "long long")
    assert table([long]).splitlines()[-2] == " " * 13 + "-> mend it"


def test_what_a_server_wrote_steers_no_terminal() -> None:
    assert table([Finding("x", State.OK, "red \x1b[31m")]).splitlines()[0] == "ok    x  red ?[31m"


def test_the_json_says_the_same() -> None:
    document = json.loads(as_json(FINDINGS))
    assert document["ok"] is False
    assert [finding["state"] for finding in document["findings"]] == ["ok", "warn", "fail", "skip"]
    assert document["findings"][0] == {
        "name": "pacs.query",
        "state": "ok",
        "text": "fine",
        "hint": None,
    }


def test_a_level_stands_beside_the_name() -> None:
    finding = Finding("SIA-3 metadata", State.WARN, "odd", "mend it", BASE)
    assert table([finding]).splitlines()[0] == "warn  SIA-3 metadata (base FHIR)  odd"
    document = json.loads(as_json([finding], guide="2026-09"))
    assert document["guide"] == "2026-09"
    assert document["findings"][0]["level"] == "base FHIR"


def test_only_a_failure_fails() -> None:
    assert has_failed(FINDINGS)
    assert not has_failed([one for one in FINDINGS if one.state is not State.FAIL])
