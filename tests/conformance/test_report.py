"""The files of a run: the page that can be mailed, and JUnit XML."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

from sidecar.conformance.finding import Finding, State
from sidecar.conformance.levels import BASE, SHALL, TEXTS, Guide
from sidecar.conformance.report import html, junit

BASE_URL = "https://imaging.example.org/fhir"
KIT = "the kit 1.2.3"
WHEN = datetime(2026, 11, 30, 12, 5, tzinfo=UTC)
ODD = "<script>alert('&')</script> \x1b[31m\0"
FINDINGS = [
    Finding("SIA-3 metadata", State.OK, "fine", level=BASE),
    Finding("SIA-24 its entries", State.WARN, "no mode", "It has one.", BASE),
    Finding("SIA-12 each study", State.FAIL, ODD, ODD, SHALL),
    Finding("SIA-60 audit", State.SKIP, "not tested, because it cannot be seen", level=SHALL),
]
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "section"),
    *("h1", "h2", "dl", "dt", "dd", "p", "ul", "li", "b", "i", "small"),
}


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_all_the_worst_first() -> None:
    page = Page(html(BASE_URL, Guide.SEPTEMBER, FINDINGS, WHEN, KIT))
    for finding in FINDINGS:
        assert finding.name in page.text
    for said in (BASE_URL, KIT, "2026-09", TEXTS[Guide.SEPTEMBER], "2026-11-30 12:05 UTC"):
        assert said in page.text
    assert "1 ok, 1 warn, 1 FAIL, 1 skip" in page.text
    places = [page.text.index(title) for title in ("Problems (1)", "Remarks (1)", "Kept (1)")]
    assert places == sorted(places)


def test_the_page_needs_nothing_and_does_nothing() -> None:
    """No script, no other file, no request; it fits a phone, and has its dark colours."""
    text = html(BASE_URL, Guide.SEPTEMBER, FINDINGS, WHEN, KIT)
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= TAGS
    for _, attributes in page.tags:
        assert attributes.keys() <= {"lang", "charset", "name", "http-equiv", "content", "class"}
    assert "default-src 'none'" in str(page.tags)
    assert not re.search(r"url\(|@import|expression", text)
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_what_a_server_wrote_is_text() -> None:
    shown = "<script>alert('&')</script> ?[31m?"
    text = html(BASE_URL + "<b>", Guide.AUGUST, FINDINGS, WHEN, KIT)
    assert "<script" not in text
    assert Page(text).text.count(shown) == 2
    assert BASE_URL + "<b>" in Page(text).text
    (failure,) = ElementTree.fromstring(junit("x", Guide.AUGUST, FINDINGS, KIT)).iter("failure")
    assert failure.get("message") == shown


def test_junit_has_a_case_for_each_finding() -> None:
    """A broken SHALL alone fails a build."""
    suite = ElementTree.fromstring(junit(BASE_URL, Guide.SEPTEMBER, FINDINGS, KIT))
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "0", "skipped": "1"}
    assert [one.attrib for one in suite.iter("property")] == [{"name": "kit", "value": KIT}]
    cases = {(case.get("classname"), case.get("name")): case for case in suite.iter("testcase")}
    assert list(cases) == [tuple(finding.name.split(" ", 1)) for finding in FINDINGS]
    inside = [[child.tag for child in case] for case in suite.iter("testcase")]
    assert inside == [["system-out"], ["system-out"], ["failure"], ["skipped"]]
    remark = cases["SIA-24", "its entries"].findtext("system-out")
    assert remark == "warn (base FHIR): no mode -> It has one."
