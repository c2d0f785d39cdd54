"""The Grafana dashboard asks for what the sidecar really exposes, in PromQL that Prometheus can
read.
"""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.prometheus.dashboard import DASHBOARD, expressions, labels
from tests.prometheus.promtool import promtool

__all__ = ["promtool"]

FROM_PROMETHEUS = {"job", "instance", "le"}


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_each_query_is_about_what_there_is(title: str, expression: str) -> None:
    exposed = labels()
    asked = re.findall(r"(smart_imaging_\w+)(?:\{([^}]*)\})?", expression)
    assert asked, title
    known = set(FROM_PROMETHEUS)
    for name, matchers in asked:
        assert name in exposed, f"{title}: {name}"
        matched = set(re.findall(r"(\w+)\s*=~?", matchers))
        assert matched <= exposed[name] | FROM_PROMETHEUS, f"{title}: {matched}"
        known |= exposed[name]
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert {one.strip() for one in grouped.split(",")} <= known, f"{title}: {grouped}"


def test_each_variable_is_one_that_there_is() -> None:
    names = {one["name"] for one in DASHBOARD["templating"]["list"]}
    for _, expression in expressions():
        assert set(re.findall(r"\$(\w+)", expression)) <= names | {"__rate_interval"}


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.prometheus
def test_prometheus_can_read_each_query(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": _filled(expression)}
        for number, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def _filled(expression: str) -> str:
    return (
        expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$route", ".*")
    )
