"""The chart's manifests, by Helm's own engine, for whatever values a test has."""

import copy
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.schema import CHART

helm = pytest.importorskip("helm_python", reason="no Helm engine: pip install helm-python-sdk")
kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="pip install kubernetes-validate"
)

ROOT = CHART.parent.parent
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
KUBERNETES = ("1.27", "1.31")
# Of other APIs than Kubernetes' own: no schema is at hand.
OTHER_KINDS = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute"}


@functools.cache
def _example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    return found


def values_of(name: str = "orthanc") -> dict[str, Any]:
    """An example's values, to be changed as one likes."""
    return copy.deepcopy(_example(name))


@functools.cache
def _valid(text: str, versions: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the manifests of a text, each valid for these versions; most texts come again in many
    combinations.
    """
    found = [one for one in yaml.load_all(text, yaml.CSafeLoader) if one is not None]
    for one in found:
        if one["kind"] not in OTHER_KINDS:
            for version in versions:
                kubernetes_validate.validate(one, version, strict=True)
    return found


def rendered(
    values: dict[str, Any], chart_folder: Path = CHART, versions: Sequence[str] = KUBERNETES
) -> list[dict[str, Any]]:
    """All manifests, each valid for these versions of Kubernetes."""
    with helm.Chart.load(chart_folder) as chart:
        files = chart.render(values, name="imaging", namespace="imaging")
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    found = [one for text in texts for one in copy.deepcopy(_valid(text, tuple(versions)))]
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(set(names)) == len(names)
    return found


def only(manifests: list[dict[str, Any]], kind: str, name: str = "imaging") -> dict[str, Any]:
    """The one of this kind and name."""
    (found,) = (one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each pod's spec."""
    for one in manifests:
        if one["kind"] == "Deployment":
            yield one["spec"]["template"]["spec"]
        elif one["kind"] == "Pod":
            yield one["spec"]


SWITCHES: dict[str, list[dict[str, Any]]] = {
    "ingress": [{"ingress": {"enabled": True, "host": "a.example.org"}}],
    "gateway": [{"gateway": {"enabled": True, "parentRefs": [{"name": "g"}]}}],
    "networkPolicy": [
        {"networkPolicy": {"enabled": False}},
        {"networkPolicy": {"pacs": {"podLabels": {"a": "b"}}}},
    ],
    "scaling": [
        {"autoscaling": {"enabled": True, "streamsPerPod": 20}},
        {"podDisruptionBudget": {"enabled": False}},
    ],
    "monitors": [{"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}],
    "rules": [
        {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}},
        {"prometheusRule": {"enabled": True, "runbookUrl": "https://a.example.org/runbook"}},
    ],
    "account": [{"serviceAccount": {"create": False}}, {"serviceAccount": {"name": "other"}}],
    "tests": [{"tests": {"enabled": False}}],
    "spool": [{"spool": {"enabled": True}}, {"spool": {"enabled": True, "existingClaim": "audit"}}],
    "spread": [{"topologySpread": False, "preStopSeconds": 0}],
}


def every_manifest(namespace: str) -> Iterator[dict[str, Any]]:
    """Each manifest of each combination of ``SWITCHES`` (the first way of each), on or off; the
    same one once.
    """
    base = {key: values_of()[key] for key in ("config", "secrets")}
    seen: set[str] = set()
    with helm.Chart.load(CHART) as chart:
        for on in itertools.product((False, True), repeat=len(SWITCHES)):
            values: dict[str, Any] = base | {}
            for name, is_on in zip(SWITCHES, on, strict=True):
                values |= copy.deepcopy(SWITCHES[name][0]) if is_on else {}
            for file, text in chart.render(values, name="imaging", namespace=namespace).items():
                if text not in seen and not file.endswith("NOTES.txt"):
                    seen.add(text)
                    yield from (
                        one for one in yaml.load_all(text, yaml.CSafeLoader) if one is not None
                    )
