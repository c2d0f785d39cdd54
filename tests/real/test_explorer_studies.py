"""The explorer's cards in a real browser: held back, on tape, with a hidden series (SIA-44, 45)."""

import json
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By

from tests.real.explorer import Explorer, explorer
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """Ada's studies in a browser."""
    with explorer(demo, tmp_path_factory.mktemp("browser")) as opened:
        opened.log_in("ada")
        yield opened


def card(purpose: str, page: Explorer) -> str:
    """Return the selector of a study's card."""
    return f".card[data-study='{page.study(purpose)['study']}']"


def test_an_embargoed_study_says_when_it_opens(page: Explorer) -> None:
    shown = page.wait(card("embargo", page))
    assert "closed" in str(shown.get_attribute("class"))
    assert "It opens at" in shown.text
    assert shown.find_elements(By.TAG_NAME, "button") == []


def test_a_series_that_is_withheld(page: Explorer) -> None:
    study = page.study("hidden-series")
    selector = card("hidden-series", page)
    assert "withheld" in page.wait(selector).text
    shown = [series for series in study["series"] if not series["hidden"]]
    page.wait(f"{selector} button.primary").click()
    page.wait(f".strip button[data-series='{shown[0]['series']}']")
    assert len(page.all(".strip button")) == len(shown) < len(study["series"])
    page.go("studies")


def test_a_study_on_tape_counts_down_and_comes(page: Explorer) -> None:
    selector = card("slow", page)

    def text() -> str:
        return str(page.js("return document.querySelector(arguments[0]).textContent", selector))

    wait_until("it counts down", text, lambda now: "Asking again in" in now, explain=page.said)
    page.go("download")
    page.wait("#start").click()
    page.status("Saved")
    wait_until("it has come", text, lambda now: "Now it is there" in now, explain=page.said)
    assert page.said().startswith("Saved"), "another page's news took its place"
    page.go("studies")
    assert page.wait(f"{selector} .picture img")


def test_the_page_asks_again_when_the_embargo_ends(page: Explorer) -> None:
    """The guide is changed: it says that the study opens in a second, and then that it is open."""
    page.js(
        """
        const [closed, found] = arguments;
        const real = window.fetch;
        window.searches = 0;
        window.fetch = async (url, options) => {
          if (String(url).includes("/ImagingStudy?")) window.searches += 1;
          const answer = await real(url, options);
          if (String(url) !== "/demo/guide") return answer;
          const guide = await answer.json();
          for (const study of guide.studies) {
            if (study.study !== closed) continue;
            study.opens_at = new Date(Date.now() + 1000).toISOString();
            if (window.searches > 1) study.study = found;
          }
          return Response.json(guide);
        };
        return import("/page/script/studies.js").then(({ loadStudies }) => loadStudies());""",
        page.study("embargo")["study"],
        page.study("volume")["study"],
    )
    assert page.all(".card.closed")
    wait_until(
        "the card has gone",
        lambda: page.js("return document.querySelectorAll('.card.closed').length"),
        lambda count: count == 0,
        explain=lambda: json.dumps(page.js("return window.searches")),
    )
    assert page.js("return window.searches") == 2
