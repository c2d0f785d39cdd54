"""The explorer's attempts to break in: each gets its refusal (SIA-12, 22, 42, 45, 50)."""

import json
from pathlib import Path

import pytest

from tests.real.explorer import explorer, running_demo
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

ATTEMPTS = 20
OUTCOMES = """
return [...document.querySelectorAll(".attack")].map((attack) => [
  attack.querySelector("h2").textContent, attack.dataset.outcome ?? "",
  attack.querySelector(".result .badge")?.textContent ?? "",
  attack.querySelector(".why .reason")?.textContent ?? "",
])"""


def test_each_attempt_is_refused(tmp_path: Path) -> None:
    with running_demo(tmp_path / "log.txt") as url, explorer(url, tmp_path) as page:
        page.log_in("ada")
        page.go("break-in")
        page.wait("#try-all").click()
        page.status(f"{ATTEMPTS} attempts were refused, 0 leaked, 0 had no clear answer")
        assert page.wait("#control .badge").text == "200"
        outcomes = wait_until(
            "the reasons",
            lambda: page.js(OUTCOMES),
            lambda rows: sum(1 for *_, reason in rows if reason) >= ATTEMPTS - 4,
            explain=lambda: json.dumps(page.js(OUTCOMES)),
        )
    assert len(outcomes) == ATTEMPTS
    by_title = {title: (outcome, status, reason) for title, outcome, status, reason in outcomes}
    assert {outcome for outcome, *_ in by_title.values()} == {"refused"}
    assert {title: row[1:] for title, row in by_title.items() if title in EXPECTED} == EXPECTED


EXPECTED = {
    "Search for another patient": ("403", "other_patient"),
    "Open another patient’s study": ("404", "not_shown"),
    "Use the other patient’s address": ("403", "other_patient"),
    "No key at all": ("401", "missing_token"),
    "A key for searching": ("403", "insufficient_scope"),
    "An old secret address": ("403", "expired_capability"),
    "A stolen secret address": ("403", "other_token"),
    "A changed secret address": ("403", "unknown_capability"),
}
