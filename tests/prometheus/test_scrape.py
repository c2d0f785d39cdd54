"""A real Prometheus scrapes the running sidecar, knows our rules, and answers the dashboard's
queries.
"""

import functools
import json
import operator
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
import yaml

from tests.background import Background
from tests.fakes.ehr import PATIENT
from tests.fakes.process_site import Site
from tests.installed import installed
from tests.prometheus.dashboard import expressions, labels
from tests.prometheus.promtool import NOT_INSTALLED, RULES
from tests.sidecar_process import SidecarProcess, free_port
from tests.waiting import WAIT_SECONDS, wait_until

pytestmark = pytest.mark.prometheus

Seen = TypeVar("Seen")


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
            [
                binary,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ]
        )

    def get(self, path: str, **parameters: str) -> Any:
        answer = requests.get(self._url + path, params=parameters, timeout=60).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, query: str) -> float:
        """The sum of what it finds."""
        return sum(float(one["value"][1]) for one in self.get("query", query=query)["result"])

    def wait_for(
        self, what: str, look: Callable[[], Seen], holds: Callable[[Seen], object]
    ) -> Seen:
        """Wait; until it is ready, it answers nothing, or no JSON."""
        return wait_until(what, look, holds, not_yet=(requests.RequestException,))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Site, SidecarProcess, Prometheus]]:
    binary = installed(shutil.which("prometheus"), NOT_INSTALLED)
    with Background() as background:
        site = Site(background, tmp_path)
        with SidecarProcess(tmp_path, site.configuration) as sidecar:
            prometheus = Prometheus(binary, tmp_path, sidecar.admin.removeprefix("http://"))
            try:
                yield site, sidecar, prometheus
            finally:
                prometheus.process.terminate()
                prometheus.process.wait(WAIT_SECONDS)


def test_it_scrapes_what_we_say(world: tuple[Site, SidecarProcess, Prometheus]) -> None:
    site, sidecar, prometheus = world
    site.repository.status = 503
    site.ask(sidecar, 20)
    requests.get(
        f"{sidecar.fhir}/ImagingStudy?patient=other",
        headers={"Authorization": "Bearer x"},
        timeout=60,
    )
    for query, count in (
        ('smart_imaging_requests_total{status="200"}', 20),
        ("up", 1),
        ("smart_imaging_audit_queue_bytes", 20),
    ):
        prometheus.wait_for(
            query,
            functools.partial(prometheus.value, query),
            functools.partial(operator.le, count),
        )

    prometheus.wait_for(
        "the target's health",
        lambda: [
            (one["health"], one["lastError"]) for one in prometheus.get("targets")["activeTargets"]
        ],
        lambda found: found == [("up", "")],
    )

    # Every family that is documented and not labelled is there from the start; none has more than a
    # few labels.
    unlabelled = {name for name, own in labels().items() if not own}
    prometheus.wait_for(
        "no family missing",
        lambda: unlabelled - set(prometheus.get("label/__name__/values")),
        lambda missing: not missing,
    )
    series = prometheus.get("series", **{"match[]": '{__name__=~"smart_imaging_.*"}'})
    assert len(series) < 600
    text = json.dumps(series)
    assert PATIENT not in re.findall(r"[a-z0-9]+", text.lower())

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    prometheus.wait_for(
        "all rules to be evaluated",
        lambda: {rule["health"] for rule in rules()},
        lambda found: found == {"ok"},
    )
    assert {rule["name"] for rule in rules()} == set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []

    for title, expression in expressions():
        filled = (
            expression.replace("$__rate_interval", "30s")
            .replace("$job", "sidecar")
            .replace("$route", ".*")
        )
        assert "$" not in filled, title
        prometheus.get("query", query=filled)
