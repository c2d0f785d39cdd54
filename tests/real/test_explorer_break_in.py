"""The explorer's attempts to break in: each gets its refusal (SIA-12, 22, 42, 45, 50)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.explorer import Explorer, explorer
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

ATTEMPTS = 20
OUTCOMES = """
return [...document.querySelectorAll(".attack")].map((attack) => [
  attack.querySelector("h2").textContent, attack.dataset.outcome ?? "",
  attack.querySelector(".result .badge")?.textContent ?? "",
  attack.querySelector(".why .reason")?.textContent ?? "",
])"""


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


@pytest.fixture
def page(demo: str, tmp_path: Path) -> Iterator[Explorer]:
    """The page of attempts."""
    with explorer(demo, tmp_path) as opened:
        opened.log_in("ada")
        opened.go("break-in")
        yield opened


def test_each_attempt_is_refused(page: Explorer) -> None:
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


@pytest.mark.parametrize(("status", "outcome"), [(200, "leak"), (206, "leak"), (503, "unclear")])
def test_a_leak_would_be_red(page: Explorer, status: int, outcome: str) -> None:
    """So that the test above can fail: the server's answers are replaced."""
    page.js(
        """
        const real = window.fetch;
        window.fetch = (url, options) => String(url).startsWith("/demo/")
          ? real(url, options) : Promise.resolve(new Response("{}", { status: arguments[0] }));
        """.replace("arguments[0]", str(status))
    )
    page.wait("#try-all").click()
    counts = {"leak": f"{ATTEMPTS} leaked", "unclear": f"{ATTEMPTS} had no clear answer"}
    page.status(counts[outcome])
    assert {row[1] for row in page.js(OUTCOMES)} == {outcome}
    is_problem = "problem" in str(page.wait("#status").get_attribute("class"))
    assert is_problem is (outcome == "leak")


def test_the_journal_hides_a_login_code_and_shows_a_refusals_code(page: Explorer) -> None:
    shown = page.driver.execute_async_script("""
        const done = arguments[arguments.length - 1];
        import("/page/script/journal.js").then(({ maskUrl, preview, previewForm }) => done([
          maskUrl("/callback?code=abc"), previewForm(new URLSearchParams("code=abc")),
          preview({ access_token: "abc" }), preview({ issue: [{ code: "forbidden" }] })]));""")
    assert [("abc" in text, "•••" in text) for text in shown[:3]] == [(False, True)] * 3
    assert '"code": "forbidden"' in shown[3]
