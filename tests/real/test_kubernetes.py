"""The chart on a real Kubernetes' API server and controllers, by Helm's own engine
(tests/real/kubernetes).
"""

import copy
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.rendering import EXAMPLES, SWITCHES, every_manifest, helm, values_of
from tests.helm.schema import CHART
from tests.real.kubernetes import Cluster, Refused, cluster, wait_for
from tests.waiting import wait_until

pytestmark = pytest.mark.kubernetes

OURS = "app.kubernetes.io/instance=imaging"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


class Release:
    """One installation of the chart, called ``imaging``, in a restricted namespace of its own."""

    def __init__(self, kubernetes: Cluster) -> None:
        self.kubernetes = kubernetes
        self.namespace = kubernetes.namespace(f"n{next(_numbers)}")
        self._addresses = itertools.count(1)
        self.helm = helm.Config(kubeconfig_content=kubernetes.kubeconfig, namespace=self.namespace)

    def install(self, values: dict[str, Any]) -> None:
        self.helm.install(CHART, "imaging", values, namespace=self.namespace)

    def upgrade(self, values: dict[str, Any]) -> None:
        self.helm.upgrade(CHART, "imaging", values, namespace=self.namespace, reset_values=True)

    def get(self, kind: str, name: str = "imaging") -> dict[str, Any]:
        return self.kubernetes.get(kind, name, namespace=self.namespace)

    def pods(self, count: int, template: str | None = None) -> list[dict[str, Any]]:
        """Wait for so many pods of the Deployment, of this template's hash."""

        def found() -> list[dict[str, Any]]:
            labels = OURS + (
                ",pod-template-hash" if template is None else f",pod-template-hash={template}"
            )
            pods = self.kubernetes.all("Pod", namespace=self.namespace, labels=labels)
            return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

        return wait_until(
            f"{count} pods", found, lambda pods: len(pods) == count, not_yet=(OSError,)
        )

    def say_they_run(self, pods: list[dict[str, Any]]) -> None:
        """What a node would say: there is none but in name."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if pod["spec"].get("nodeName"):  # It runs already.
                continue
            self.kubernetes.bind(name, namespace=self.namespace)
            conditions = [
                {"type": one, "status": "True"}
                for one in ("PodScheduled", "Ready", "ContainersReady")
            ]
            address = f"10.0.0.{next(self._addresses)}"
            status = {
                "phase": "Running",
                "conditions": conditions,
                "podIP": address,
                "podIPs": [{"ip": address}],
            }
            self.kubernetes.set_status("Pod", name, status, namespace=self.namespace)

    def addresses(self, service: str) -> dict[str, set[int]]:
        """The addresses behind a Service, and on which ports."""
        found: dict[str, set[int]] = {}
        label = f"kubernetes.io/service-name={service}"
        for one in self.kubernetes.all("EndpointSlice", namespace=self.namespace, labels=label):
            for endpoint in one["endpoints"] or ():
                for address in endpoint["addresses"]:
                    found.setdefault(address, set()).update(
                        port["port"] for port in one["ports"] or ()
                    )
        return found


@pytest.fixture
def release(kubernetes: Cluster) -> Iterator[Release]:
    one = Release(kubernetes)
    with one.helm:
        yield one


@pytest.mark.exhaustive
def test_every_combination_of_switches_is_taken(kubernetes: Cluster) -> None:
    """By the server's own validation and admission, those of Gateway API and Prometheus operator
    included.

    Strictly and without a warning; nothing is kept.
    """
    namespace = kubernetes.namespace("switches", accounts=("imaging", "other"))
    kinds: set[str] = set()
    for one in every_manifest(namespace):
        kubernetes.apply(one, namespace=namespace, dry_run=True)
        kinds.add(one["kind"])
    assert {
        "HTTPRoute",
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
        "HorizontalPodAutoscaler",
    } <= kinds


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_installed_and_its_pods_are_made(release: Release, example: Path) -> None:
    """In a namespace that takes pods by the restricted Pod Security Standard alone."""
    values = yaml.safe_load(example.read_text())
    release.install(values)
    pods = release.pods(1 if example.stem == "all-in-one" else 2)
    release.say_they_run(pods)
    expected = {f"10.0.0.{number}": {8080} for number in range(1, len(pods) + 1)}
    wait_for(lambda: release.addresses("imaging") == expected, "endpoints")
    wait_for(
        lambda: set(release.addresses("imaging-admin")) == set(expected),
        "the admin port's endpoints",
    )
    if example.stem != "all-in-one":
        wait_for(
            lambda: release.get("PodDisruptionBudget")["status"]["disruptionsAllowed"] == 1,
            "the budget",
        )


def test_a_pod_that_may_do_more_is_refused_here(kubernetes: Cluster) -> None:
    """So that the tests above can fail."""
    namespace = kubernetes.namespace("restricted", accounts=("imaging",))
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values_of(), name="imaging", namespace=namespace)
    (text,) = (text for name, text in files.items() if name.endswith("tests/check.yaml"))
    pod = yaml.safe_load(text)
    kubernetes.apply(pod, namespace=namespace, dry_run=True)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Refused, match="allowPrivilegeEscalation"):
        kubernetes.apply(pod, namespace=namespace, dry_run=True)
    pod["spec"]["containers"][0]["securityContext"] = {"allowed": True}
    with pytest.raises(Refused, match="not declared in schema"):
        kubernetes.apply(pod, namespace=namespace, dry_run=True)


def test_every_switch_can_be_turned_on_and_off_again(release: Release) -> None:
    """By upgrades of one release: nothing that the server does not let anybody change."""
    base = {key: values_of()[key] for key in ("config", "secrets")}
    release.install(base)
    selector = release.get("Deployment")["spec"]["selector"]
    for name, choices in SWITCHES.items():
        for choice in choices:
            release.upgrade(base | copy.deepcopy(choice))
            release.upgrade(base)
        assert release.get("Deployment")["spec"]["selector"] == selector, name
    release.helm.rollback("imaging", version=2)
    assert release.get("Ingress")["spec"]["rules"][0]["host"] == "a.example.org"


def test_routes_below_a_path_are_taken(release: Release) -> None:
    """A path that the sidecar would refuse at its start does not reach the cluster."""
    values = values_of()
    server = values["config"]["server"]
    server["public_url"] = "https://imaging.hospital.example.org/imaging"
    values["gateway"] = {"enabled": True, "parentRefs": [{"name": "outside"}]}
    release.install(values)
    (path,) = release.get("Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/imaging", "Prefix")
    (rule,) = release.get("HTTPRoute")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/imaging"}}]
    server["public_url"] = "https://imaging.hospital.example.org/fhir"
    with pytest.raises(helm.HelmError, match="public_url has the path /fhir"):
        release.upgrade(values)


def test_a_new_configuration_brings_new_pods_before_the_old_ones_go(release: Release) -> None:
    values = values_of()
    release.install(values)
    old = release.pods(2)
    release.say_they_run(old)
    wait_for(lambda: release.get("Deployment")["status"].get("availableReplicas") == 2, "the pods")
    values["config"]["fhir"]["timezone"] = "Europe/Vienna"
    release.upgrade(values)
    both = release.pods(3)  # One more than wanted, and none of the old ones less.
    assert {pod["metadata"]["name"] for pod in old} < {pod["metadata"]["name"] for pod in both}
    (new,) = {pod["metadata"]["labels"]["pod-template-hash"] for pod in both} - {
        pod["metadata"]["labels"]["pod-template-hash"] for pod in old
    }
    release.say_they_run(release.pods(1, new))
    release.say_they_run(release.pods(2, new))
    assert "Europe/Vienna" in release.get("ConfigMap", "imaging-config")["data"]["config.yaml"]


@pytest.mark.parametrize(("phase", "is_well"), [("Succeeded", True), ("Failed", False)])
def test_helm_test_says_what_check_said(release: Release, phase: str, *, is_well: bool) -> None:
    """And its pod, which stays for its log to be read, counts nowhere as one of ours."""
    release.install(values_of())
    pods = release.pods(2)
    release.say_they_run(pods)
    release.kubernetes.after(
        lambda: release.kubernetes.find("Pod", "imaging-check", namespace=release.namespace),
        lambda: release.kubernetes.set_status(
            "Pod",
            "imaging-check",
            {"phase": phase, "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]},
            namespace=release.namespace,
        ),
    )
    if is_well:
        release.helm.test("imaging", timeout=120)
    else:
        with pytest.raises(helm.HelmError):
            release.helm.test("imaging", timeout=120)
    assert release.get("Pod", "imaging-check")["status"]["phase"] == phase
    wait_for(
        lambda: release.get("PodDisruptionBudget")["status"]["disruptionsAllowed"] == 1,
        "the budget",
    )
    wait_for(
        lambda: release.get("PodDisruptionBudget")["status"]["expectedPods"] == 2,
        "the budget's pods",
    )
    for service in ("imaging", "imaging-admin"):
        wait_until(
            f"the endpoints of {service}",
            functools.partial(release.addresses, service),
            lambda found: set(found) == {"10.0.0.1", "10.0.0.2"},
        )
    said = [
        event["reason"] for event in release.kubernetes.all("Event", namespace=release.namespace)
    ]
    assert "UnmanagedPods" not in said
