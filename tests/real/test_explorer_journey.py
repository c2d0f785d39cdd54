"""The explorer's login in a real browser: four steps, what was asked, why it was answered
(SIA-1, 12, 20).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.demo_process import running_demo
from tests.real.explorer import Explorer, explorer
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture
def page(demo: str, tmp_path: Path) -> Iterator[Explorer]:
    """The page in a browser of the test's own."""
    with explorer(demo, tmp_path) as opened:
        yield opened


def states(page: Explorer) -> list[str]:
    return [str(step.get_attribute("class")).split()[1] for step in page.all(".step")]


def test_the_four_steps(page: Explorer) -> None:
    page.driver.get(page.url + "/")
    page.wait("#log-in")
    assert states(page) == ["next", "waiting", "waiting", "waiting"]
    page.log_in("ada")
    # The code of the login does not stay in the address bar.
    assert page.driver.current_url == page.url + "/#studies"
    page.go("journey")
    assert states(page) == ["done"] * 4
    assert len(page.all(".step:nth-child(2) .exchange")) == 1
    assert page.wait(".facts").text.splitlines()[1] == "ada"


def test_no_secret_is_shown_or_kept(page: Explorer) -> None:
    page.log_in("ada")
    page.go("journey")
    secrets = page.js(
        "return import('/page/script/session.js').then(({ session }) => [session.token])"
    )
    page.js("for (const one of document.querySelectorAll('.exchange')) one.open = true")
    wait_until("all are open", lambda: len(page.all(".exchange pre")) // 2, lambda n: n > 4)
    text = page.wait("#page-journey").text
    assert "Bearer •••••" in text
    assert '"access_token": "•••••' in text
    assert "code_verifier=•••••" in text
    shown = page.js("return document.documentElement.outerHTML")
    stored = page.js("return JSON.stringify([{ ...sessionStorage }, { ...localStorage }])")
    assert [secret for secret in secrets if not secret or secret in shown or secret in stored] == []


def test_each_answer_says_why(page: Explorer) -> None:
    page.log_in("ada")
    page.go("journey")
    search = next(one for one in page.all("#timeline .exchange") if "ImagingStudy?" in one.text)
    search.find_element("css selector", "summary").click()
    why = page.wait("#timeline .exchange[open] .why strong")
    assert why.text == "Why was this permitted?"
    assert page.wait("#timeline .exchange[open] .requirements").text.startswith("SIA-")


def test_the_command_that_is_copied(page: Explorer) -> None:
    page.log_in("ada")
    command = page.js(
        "return import('/page/script/journal.js').then(({ asCurl, exchanges }) =>"
        "asCurl(exchanges.find(({ url }) => url.includes('ImagingStudy?'))))"
    )
    assert command.startswith("curl -sS -i")
    assert '-H "Authorization: Bearer $TOKEN"' in command
    assert f"'{page.url}/fhir/ImagingStudy?patient=Patient" in command


def test_no_copied_command_has_a_secret(page: Explorer) -> None:
    page.log_in("ada")
    page.go("break-in")
    page.wait("#try-all").click()
    page.status("attempts were refused")
    token, commands = page.js("""
        return Promise.all([import("/page/script/session.js"), import("/page/script/journal.js")])
          .then(([{ session }, { asCurl, exchanges }]) => [
            session.token, exchanges.filter(({ status }) => status !== "visited").map(asCurl),
          ])""")
    assert len(commands) > 20
    assert [command for command in commands if token in command] == []


def test_logging_out_while_something_is_fetched(page: Explorer) -> None:
    """Nothing is left behind, and no script breaks."""
    page.log_in("ada")
    page.wait(f".card[data-study='{page.study('volume')['study']}'] button.primary").click()
    page.go("download")
    page.wait("#start").click()
    page.wait("#log-out").click()
    page.status("token is forgotten")
    wait_until(
        "all that was fetched has ended",
        lambda: page.js("return document.querySelectorAll('#download *, #viewer *').length"),
        lambda count: count == 0,
    )
    assert page.all("#timeline > *") == []
    assert [text for text in page.console() if "Failed to load resource" not in text] == []


def test_a_login_that_is_denied(page: Explorer) -> None:
    page.driver.get(page.url + "/")
    page.wait("#log-in").click()
    page.wait("button[value=deny]").click()
    page.status("Not logged in .access_denied")
    assert states(page)[2] == "failed"
    assert page.all(".card") == []


def test_an_answer_that_was_not_asked_for(page: Explorer) -> None:
    """A code that somebody else puts into the address: not used."""
    page.driver.get(page.url + "/?code=stolen&state=made-up")
    page.status("not begun here")
    assert page.driver.current_url == page.url + "/"


def test_logging_out_forgets_everything(page: Explorer) -> None:
    page.log_in("ada")
    page.wait("#log-out").click()
    page.status("token is forgotten")
    journal = "return import('/page/script/journal.js').then(({ exchanges }) => exchanges)"
    assert page.js(journal) == []
    assert page.all("#timeline > *") == []
    page.go("studies")
    assert page.wait(".invitation button")
    assert page.all(".card") == []
    token = "return import('/page/script/session.js').then(({ session }) => session.token)"
    assert page.js(token) is None


def test_a_login_from_another_machine(tmp_path: Path) -> None:
    """A page over plain HTTP has no secure context, so the browser lends it no SHA-256."""
    with (
        running_demo("--host", "0.0.0.0") as demo,
        explorer(demo.base, tmp_path) as page,
    ):
        page.log_in("ada")
        # A machine without a network has its loopback address alone.
        assert page.js("return isSecureContext") is ("127.0.0.1" in demo.base)


def test_our_sha256_is_the_browsers(page: Explorer) -> None:
    page.driver.get(page.url + "/")
    same = page.js("""
        return import('/page/script/sha256.js').then(async ({ sha256 }) => {
          for (const length of [0, 1, 43, 55, 56, 63, 64, 65, 119, 120, 1000]) {
            const bytes = crypto.getRandomValues(new Uint8Array(length));
            const expected = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
            if (String(sha256(bytes)) !== String(expected)) return length;
          }
          return 'same';
        })""")
    assert same == "same"
