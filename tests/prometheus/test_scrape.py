"""A real Prometheus scrapes the running sidecar, knows our rules, and answers the dashboard's queries."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.background import Background
from tests.prometheus.test_dashboard import expressions, labels
from tests.prometheus.test_rules import NOT_INSTALLED, RULES
from tests.sidecar_process import SidecarProcess, free_port
from tests.site import Site
from tests.upstreams import PATIENT

pytestmark = pytest.mark.prometheus


class Prometheus:
    """A real one that scrapes one target each second; ``get`` asks its HTTP API."""

    def __init__(self, binary: str, folder: Path, target: str) -> None:
        shutil.copy(RULES, folder / "rules.yaml")
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "sidecar", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        address = f"127.0.0.1:{free_port()}"
        self._url = f"http://{address}/api/v1/"
        self.process = subprocess.Popen(
            [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={address}", "--log.level=warn"],
        )  # fmt: skip

    def get(self, path: str, **parameters: str) -> Any:
        answer = requests.get(self._url + path, params=parameters, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, query: str) -> float:
        """The sum of what it finds."""
        return sum(float(one["value"][1]) for one in self.get("query", query=query)["result"])

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if condition():
                    return
            except requests.ConnectionError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Site, SidecarProcess, Prometheus]]:
    binary = shutil.which("prometheus")
    if binary is None:
        if os.environ.get("REQUIRE_REAL_SERVERS"):
            pytest.fail(NOT_INSTALLED)
        pytest.skip(NOT_INSTALLED)
    with Background() as background:
        site = Site(background, tmp_path)
        with SidecarProcess(tmp_path, site.configuration) as sidecar:
            prometheus = Prometheus(binary, tmp_path, sidecar.admin.removeprefix("http://"))
            try:
                yield site, sidecar, prometheus
            finally:
                prometheus.process.terminate()
                prometheus.process.wait(20)


def test_it_scrapes_what_we_say(world: tuple[Site, SidecarProcess, Prometheus]) -> None:
    site, sidecar, prometheus = world
    site.repository.status = 503
    site.ask(sidecar, 20)
    requests.get(f"{sidecar.fhir}/ImagingStudy?patient=other", headers={"Authorization": "Bearer x"}, timeout=10)
    prometheus.wait_for(lambda: prometheus.value('smart_imaging_requests_total{status="200"}') >= 20)
    assert prometheus.value("up") == 1
    prometheus.wait_for(lambda: prometheus.value("smart_imaging_audit_queue_length") >= 20)

    targets = prometheus.get("targets")["activeTargets"]
    assert [(one["health"], one["lastError"]) for one in targets] == [("up", "")]

    # Every family that is documented and not labelled is there from the start; none has more than a few labels.
    names = set(prometheus.get("label/__name__/values"))
    unlabelled = {name for name, own in labels().items() if not own}
    assert unlabelled <= names, unlabelled - names
    series = prometheus.get("series", **{"match[]": '{__name__=~"smart_imaging_.*"}'})
    assert len(series) < 600
    text = json.dumps(series)
    assert PATIENT not in re.findall(r"[a-z0-9]+", text.lower())

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    prometheus.wait_for(lambda: all(rule["health"] == "ok" for rule in rules()))
    assert {rule["name"] for rule in rules()} == set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []

    for title, expression in expressions():
        filled = expression.replace("$__rate_interval", "30s").replace("$job", "sidecar").replace("$route", ".*")
        assert "$" not in filled, title
        prometheus.get("query", query=filled)
