"""The alerts of ``config/prometheus/rules.yaml``, by the real promtool, and against the metrics
that we expose.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sidecar.telemetry.metrics import Metrics
from tests.prometheus.promtool import RULES, promtool

__all__ = ["promtool"]

TESTS = Path(__file__).parent / "rules_test.yaml"


@pytest.mark.prometheus
def test_each_alert_fires_and_rests_as_it_should(promtool: str, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path / "rules.yaml")
    shutil.copy(TESTS, tmp_path / "tests.yaml")
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
def test_the_exposition_is_clean(promtool: str, tmp_path: Path) -> None:
    """``promtool check metrics``: names, types, help."""
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=Metrics("1").expose(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_every_alert_has_a_test() -> None:
    alerts = {
        rule["alert"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    }
    tested = {
        one["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for one in test["alert_rule_test"]
    }
    assert alerts == tested


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    exposed = set(re.findall(r"# TYPE (\S+)", Metrics("1").expose().decode()))
    asked = set(re.findall(r"smart_imaging_\w+", RULES.read_text()))
    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= exposed


def test_a_first_failure_is_an_increase() -> None:
    """Prometheus sees no increase in a series that begins with 1."""
    text = Metrics("1").expose().decode()
    for what in ("instance", "metadata", "unreadable_instance"):
        assert f'smart_imaging_verification_failures_total{{what="{what}"}} 0.0' in text
    assert "smart_imaging_shared_uids_total 0.0" in text
    assert 'smart_imaging_worker_starts_total{reason="restart"} 0.0' in text
    assert 'smart_imaging_configuration_reloads_total{outcome="failed"} 0.0' in text


def test_every_alert_has_its_section_in_the_runbook() -> None:
    """And says there what it means, how to see it, what to do."""
    sections = re.split(
        r"^## ", (RULES.parents[2] / "docs" / "runbook.md").read_text(), flags=re.MULTILINE
    )
    by_name = {section.partition("\n")[0]: section for section in sections}
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["alert"] in by_name
            assert "**Means**" in by_name[rule["alert"]]
