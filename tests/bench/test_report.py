"""The stored results, and what is made of them: tables, plots, documents, aims, CI's comparison."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import measurements, ratios, report
from bench.aims import is_met, read_aims, value
from bench.measurements import RESULTS, Measurement, Samples, figure, load, quartiles, store, tables
from bench.peers import DIRECT, NO_AUDIT, OURS, TUNED
from bench.plots import plot

EVERYTHING = [each for name in report.SECTIONS for each in load(name)[1]]
OTHERS = {TUNED: 4.0, OURS: 2.0, DIRECT: 1.0}


@pytest.fixture(scope="module")
def files() -> dict[Path, str]:
    return report.files()


def test_documents_tables_and_plots_are_of_the_stored_results(files: dict[Path, str]) -> None:
    """`make bench ARGS=report` writes them again."""
    assert [path.name for path, text in files.items() if path.read_text() != text] == []
    assert set(RESULTS.glob("*.svg")) <= files.keys()


def test_plots_are_shown(files: dict[Path, str]) -> None:
    document = (report.DOCS / "performance.md").read_text()
    for path, text in files.items():
        if path.suffix == ".svg":
            assert f"(../bench/results/{path.name})" in document
            assert ElementTree.fromstring(text).tag.endswith("svg")


def test_cases_fit_beside_their_bars() -> None:
    for group in report._by_metric(EVERYTHING):
        if report._is_worth_a_plot(group):
            assert [each.case for each in group if not each.x and len(each.case) > 24] == []


def test_links_of_the_tables_work(files: dict[Path, str]) -> None:
    linked = re.findall(r"\]\(([^)]+)\)", files[RESULTS / "tables.md"])
    assert linked
    assert [name for name in linked if not (RESULTS / name).exists()] == []


def test_each_section_says_where_it_was_measured() -> None:
    for name in report.SECTIONS:
        machine, measured = load(name)
        assert measured, name
        assert {"processor", "cores", "kernel", "python", "load before", "date"} <= machine.keys()


@pytest.mark.parametrize(("load_before", "is_busy"), [("0.4", False), ("0.6", True)])
def test_a_busy_machine_is_named(load_before: str, is_busy: bool) -> None:
    text = report._where({"cores": "2", "load before": load_before})
    assert f"load before {load_before}" in text
    assert ("mean nothing" in text) is is_busy


def test_each_aim_was_measured() -> None:
    assert [aim["what"] for aim in read_aims() if value(aim, EVERYTHING, aim["peer"]) is None] == []
    assert {aim["peer"] for aim in read_aims()} == {OURS, NO_AUDIT}


@pytest.mark.parametrize(
    ("over", "minus", "expected"), [("", "", 2), (TUNED, "", 0.5), ("", DIRECT, 1), ("x", "", None)]
)
def test_a_figure_is_beside_anothers(over: str, minus: str, expected: float | None) -> None:
    results = [Measurement("g", "c", peer, "m", n, n, n, 1) for peer, n in OTHERS.items()]
    aim = {"group": "g", "case": "c", "metric": "m", "over": over, "minus": minus}
    assert value(aim, results, OURS) == expected


@pytest.mark.parametrize(("relation", "now"), [("≥", 3.0), ("≥", 2.0), ("≤", 2.0), ("≤", 1.0)])
def test_an_aim_is_met_by_its_own_limit(relation: str, now: float) -> None:
    aim = {"aim": relation, "limit": "2"}
    assert is_met(aim, now)
    assert is_met(aim, 4 - now) is (now == 2)


def test_a_document_without_a_place_is_an_error() -> None:
    text = "a <!-- x -->\nold\n<!-- end --> b"
    assert report.filled(text, {"x": "new"}) == "a <!-- x -->\nnew\n<!-- end --> b"
    with pytest.raises(ValueError, match="no place for y"):
        report.filled(text, {"y": "new"})


@pytest.mark.parametrize(("now", "is_good"), [(1.0, True), (0.76, True), (0.74, False), (3, True)])
def test_a_ratio_may_not_fall_by_more_than_a_quarter(
    now: float, is_good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "RESULTS", tmp_path)
    store("ratios", {}, _samples(frame=1).measurements())
    assert ratios.compare(_samples(frame=(now, now, 0.1))) is is_good


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        ({"frame": 1}, {"frame": 1}, ""),
        ({}, {"frame": 1}, "nothing stored"),
        ({"frame": 1, "study": 1}, {"frame": 1}, "not measured"),
    ],
)
def test_a_ratio_that_is_not_compared_is_no_success(
    before: dict[str, float],
    now: dict[str, float],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(measurements, "RESULTS", tmp_path)
    store("ratios", {}, _samples(**before).measurements())
    assert ratios.compare(_samples(**now)) is (not shown)
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("processor", "least"), [("quick", 2.0), ("slow", 1.0), ("of another kind", 1.0)]
)
def test_a_ratio_is_compared_with_that_of_such_a_processor_or_with_the_least(
    processor: str, least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "RESULTS", tmp_path)
    monkeypatch.setattr(ratios, "machine", lambda: {"processor": processor})
    store("ratios", {"processor": "quick"}, _samples(frame=2).measurements())
    store("ratios-slow", {"processor": "slow"}, _samples(frame=1).measurements())
    assert ratios.compare(_samples(frame=0.76 * least))
    assert not ratios.compare(_samples(frame=0.74 * least))


def _samples(**values: float | tuple[float, ...]) -> Samples:
    samples = Samples()
    for case, numbers in values.items():
        for number in numbers if isinstance(numbers, tuple) else (numbers,):
            samples.add(ratios.GROUP, case, ratios.PEER, ratios.RATIO, number)
    return samples


def test_medians_and_quartiles() -> None:
    assert quartiles([5]) == (5, 5, 5)
    assert quartiles([1, 2, 3, 4, 100]) == (3, 2, 4)
    (measured,) = _samples(frame=(1, 2, 3, 4, 100)).measurements()
    assert measured.text() == "3 (2–4)"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.01234, "0.0123"), (12.34, "12.3"), (12_345, "12,345"), (float("inf"), "never")],
)
def test_figures(number: float, text: str) -> None:
    assert figure(number) == text


def test_a_table_has_a_line_for_each_case_and_a_column_for_each_peer() -> None:
    samples = Samples()
    samples.add("g", "a", "one", "s", 1)
    samples.add("g", "a", "two", "s", 2)
    samples.add("g", "b", "two", "s", 3)
    assert tables(samples.measurements()).splitlines() == [
        "**g**: s",
        "",
        "|  | one | two |",
        "| --- | --- | --- |",
        "| a | 1 | 2 |",
        "| b | – | 3 |",
    ]


@pytest.mark.parametrize("x", [None, 0.0, 1.0])
def test_a_plot_has_all_that_was_measured(x: float | None) -> None:
    samples = Samples()
    for peer in ("ours", "<others>"):
        for factor in (1, 10):
            more = None if x is None else x * factor
            samples.add("g", f"case {factor}", peer, "s", factor, x=more)
    svg = plot(samples.measurements())
    texts = {each.text for each in ElementTree.fromstring(svg).iter() if each.text}
    assert {"g: s", "case 1", "case 10", "ours", "<others>"} <= texts
    assert ("polyline" in svg) is bool(x)
