"""The chart, by Helm's own engine and Kubernetes' own schemas (issue: every example,
every switch).
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.server.supervisor import END_SECONDS
from sidecar.settings.fhir import CatalogSettings
from tests.helm.rendering import (
    EXAMPLES,
    ROOT,
    helm,
    only,
    pods,
    rendered,
    values_of,
)
from tests.helm.schema import CHART


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_examples(example: Path) -> None:
    """Linted strictly, rendered, valid; and their config is one that the sidecar accepts."""
    values = yaml.safe_load(example.read_text())
    found = helm.lint(CHART, values, strict=True)
    assert [one for one in found["messages"] if one["severity"] > 1] == []
    assert found["errors"] == []
    manifests = rendered(values)
    (config,) = (
        one["data"]["config.yaml"] for one in manifests if "config.yaml" in one.get("data", {})
    )
    assert yaml.safe_load(config) == values["config"]
    for pod in pods(manifests):
        mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        for file in re.findall(r"/run/secrets/[^/\s]+", config):
            assert file in mounts


def test_releases_of_two_ehrs_share_nothing_but_the_archive() -> None:
    """No object, pod, Secret or host of one is the other's."""
    named: list[set[str]] = []
    for site in ("north", "south"):
        with helm.Chart.load(CHART) as chart:
            files = chart.render(values_of(f"two-ehrs-{site}"), name=f"imaging-{site}")
        texts = (text for name, text in files.items() if name.endswith(".yaml"))
        manifests = [one for text in texts for one in yaml.safe_load_all(text) if one is not None]
        names = {f"{one['kind']} {one['metadata']['name']}" for one in manifests}
        names |= {
            f"Secret {volume['secret']['secretName']}"
            for pod in pods(manifests)
            for volume in pod["volumes"]
            if "secret" in volume
        }
        ingress = only(manifests, "Ingress", f"imaging-{site}")
        names |= {f"host {rule['host']}" for rule in ingress["spec"]["rules"]}
        deployment = only(manifests, "Deployment", f"imaging-{site}")
        names.add(f"pods {deployment['spec']['selector']['matchLabels']}")
        named.append(names)
    assert len(named[0]) > 8
    assert named[0].isdisjoint(named[1])


def test_the_least_that_must_be_said_is_said() -> None:
    with pytest.raises(helm.HelmError, match="config is required"):
        rendered({})


def notes(values: dict[str, Any]) -> str:
    """What `helm install` says at its end."""
    with helm.Chart.load(CHART) as chart:
        (text,) = [
            text
            for name, text in chart.render(values, name="imaging", namespace="imaging").items()
            if name.endswith(".txt")
        ]
    return str(text)


def test_replicas_that_refuse_each_others_links_are_warned_of() -> None:
    values = values_of()
    assert "link_key_file" not in notes(values)
    del values["config"]["fhir"]["link_key_file"]
    assert "WARNING: several replicas" in notes(values)
    assert "link_key_file" not in notes({**values, "replicaCount": 1})


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_nothing_may_do_what_it_need_not(example: Path) -> None:
    for pod in pods(rendered(yaml.safe_load(example.read_text()))):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] is True
            assert allowed["runAsNonRoot"] is True
            assert allowed["allowPrivilegeEscalation"] is False
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            assert allowed["seccompProfile"] == {"type": "RuntimeDefault"}
        for volume in pod["volumes"]:
            assert volume.get("secret", {}).get("defaultMode", 0o440) == 0o440


def test_probes_go_to_the_admin_port() -> None:
    values = values_of()
    values["config"]["server"] |= {"port": 8888, "admin_port": 9999, "drain_seconds": 120}
    manifests = rendered(values)
    (container,) = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"http": 8888, "admin": 9999}
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "admin"}
    grace = only(manifests, "Deployment")["spec"]["template"]["spec"][
        "terminationGracePeriodSeconds"
    ]
    # Else downloads that drain are cut off, or workers are killed with the supervisor.
    assert grace > 10 + 120 + END_SECONDS  # 10: preStopSeconds.
    assert only(manifests, "Service")["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": "http"}
    ]


def server_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return the section `server` of the configuration that the pods read."""
    config = only(rendered(values), "ConfigMap", "imaging-config")["data"]["config.yaml"]
    server: dict[str, Any] = yaml.safe_load(config)["server"]
    return server


def test_workers_follow_the_limit_of_cpus() -> None:
    """Without a limit a pod sees all CPUs of its node, and starts no worker for each unasked."""
    limited = {"resources": {"limits": {"cpu": 4}}}
    values = values_of()
    assert "workers" not in server_of(values)
    assert server_of(values | limited) == values["config"]["server"] | {"workers": "auto"}
    values["config"]["server"]["workers"] = 3
    assert server_of(values | limited)["workers"] == 3
    assert server_of(values)["workers"] == 3
    values["config"]["server"]["workers"] = "auto"
    assert server_of(values | limited)["workers"] == "auto"


def test_a_catalog_in_memory_keeps_one_worker() -> None:
    values = values_of() | {"resources": {"limits": {"cpu": "4"}}}
    values["config"]["fhir"]["catalog"] = {"store": "memory"}
    assert "workers" not in server_of(values)


def test_the_catalog_of_several_workers_has_a_folder_to_write_to() -> None:
    (pod, check) = pods(rendered(values_of()))
    for spec in (pod, check):
        mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
        mount = mounts[str(CatalogSettings().file.parent)]
        assert "readOnly" not in mount
        (volume,) = (one for one in spec["volumes"] if one["name"] == mount["name"])
        assert volume["emptyDir"] == {}


def test_a_new_configuration_rolls_the_pods() -> None:
    values = values_of()

    def checksum() -> str:
        annotations = only(rendered(values), "Deployment")["spec"]["template"]["metadata"][
            "annotations"
        ]
        found: str = annotations["checksum/config"]
        return found

    before = checksum()
    assert checksum() == before
    values["config"]["fhir"]["timezone"] = "Europe/Vienna"
    assert checksum() != before


def test_only_prometheus_reaches_the_admin_port_and_only_we_the_archive() -> None:
    manifests = rendered(values_of())
    ours = only(manifests, "NetworkPolicy")["spec"]
    deployment = only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert ours["podSelector"]["matchLabels"].items() <= deployment.items()
    by_port = {rule["ports"][0]["port"]: rule.get("from") for rule in ours["ingress"]}
    assert by_port == {
        "http": None,
        "admin": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ],
    }
    theirs = only(manifests, "NetworkPolicy", "imaging-pacs")["spec"]
    assert theirs["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "orthanc"}
    dicomweb, modalities = theirs["ingress"]
    check = only(manifests, "Pod", "imaging-check")["metadata"]["labels"]
    assert dicomweb["ports"] == [{"port": 8042}]
    sidecar, tester = (one["podSelector"] for one in dicomweb["from"])
    assert sidecar == ours["podSelector"]
    assert tester["matchLabels"].items() <= check.items()
    assert not sidecar["matchLabels"].items() <= check.items()
    untested = only(
        rendered(values_of() | {"tests": {"enabled": False}}), "NetworkPolicy", "imaging-pacs"
    )["spec"]
    assert untested["ingress"][0]["from"] == [{"podSelector": sidecar}]
    assert modalities["ports"] == [{"port": 4242}]
    closed = values_of() | {"networkPolicy": {"prometheus": []}}
    assert [
        rule["ports"][0]["port"]
        for rule in only(rendered(closed), "NetworkPolicy")["spec"]["ingress"]
    ] == ["http"]


def test_an_orthanc_in_the_pod_is_reached_by_nobody_else() -> None:
    manifests = rendered(values_of("all-in-one"))
    deployment = only(manifests, "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    _, orthanc = deployment["template"]["spec"]["containers"]
    assert "ports" not in orthanc
    assert (
        json.loads(only(manifests, "ConfigMap", "imaging-orthanc")["data"]["orthanc.json"])[
            "RemoteAccessAllowed"
        ]
        is False
    )
    ports = {
        rule["ports"][0]["port"] for rule in only(manifests, "NetworkPolicy")["spec"]["ingress"]
    }
    assert ports == {"http", "admin"}
    # It would hold back every drain.
    assert not [one for one in manifests if one["kind"] == "PodDisruptionBudget"]
    with pytest.raises(helm.HelmError, match="exclude each other"):
        rendered(values_of("all-in-one") | {"autoscaling": {"enabled": True}})


def test_rules_and_dashboard_are_those_of_the_project() -> None:
    for ours, theirs in (
        ("rules.yaml", "prometheus/rules.yaml"),
        ("dashboard.json", "grafana/dashboard.json"),
    ):
        assert (CHART / "files" / ours).read_text() == (ROOT / "config" / theirs).read_text(), (
            f"copy config/{theirs}"
        )
    manifests = rendered(values_of("dcm4chee"))
    rules = only(manifests, "PrometheusRule")["spec"]
    assert rules == yaml.safe_load((ROOT / "config/prometheus/rules.yaml").read_text())
    dashboard = only(manifests, "ConfigMap", "imaging-dashboard")["data"][
        "smart-imaging-sidecar.json"
    ]
    assert json.loads(dashboard)["uid"] == "smart-imaging-sidecar"
    service = only(manifests, "Service", "imaging-admin")["metadata"]["labels"]
    assert (
        only(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
        <= service.items()
    )
    assert "app.kubernetes.io/component" not in only(manifests, "Service")["metadata"]["labels"]


def test_an_alert_leads_to_its_section_of_the_runbook() -> None:
    """At 3 a.m. nobody looks for a page."""
    values = values_of() | {
        "prometheusRule": {"enabled": True, "runbookUrl": "https://wiki.example.org/runbook"}
    }
    linked, plain = (
        only(rendered(values_of() | one), "PrometheusRule")["spec"]["groups"]
        for one in (values, {"prometheusRule": {"enabled": True}})
    )
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    alerts = [rule for group in linked for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == set(sections)
    for rule in alerts:
        url = rule["annotations"].pop("runbook_url")
        assert url == f"https://wiki.example.org/runbook#{rule['alert'].lower()}"
    assert linked == plain  # Nothing else of a rule changes on the way.
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError, match="runbookUrl"):
        chart.validate_schema(values | {"prometheusRule": {"runbookUrl": "runbook.md"}})


def test_big_downloads_get_through_the_routes() -> None:
    manifests = rendered(values_of("dcm4chee") | {"ingress": values_of()["ingress"]})
    route = only(manifests, "HTTPRoute")["spec"]["rules"][0]
    assert route["timeouts"]["request"] == "3600s"
    annotations = only(manifests, "Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 3_600


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://a.example.org", "/"),
        ("https://a.example.org/", "/"),
        ("https://a.example.org/imaging", "/imaging"),
        ("https://a.example.org:8443/north/imaging.v1/", "/north/imaging.v1"),
    ],
)
def test_routes_lead_below_the_path_of_the_public_url(url: str, path: str) -> None:
    """They pass it on as it is: no annotation and no filter rewrites a target."""
    values = values_of()
    values["config"]["server"] = values["config"].get("server", {}) | {"public_url": url}
    values["gateway"] = {"enabled": True, "parentRefs": [{"name": "g"}]}
    manifests = rendered(values)
    ingress = only(manifests, "Ingress")
    (found,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert (found["path"], found["pathType"]) == (path, "Prefix")
    assert not [name for name in ingress["metadata"]["annotations"] if "rewrite" in name]
    (rule,) = only(manifests, "HTTPRoute")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": path}}]
    assert "filters" not in rule
    (container,) = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "admin"
        assert container[probe]["httpGet"]["path"] in ("/healthz", "/readyz")


def test_helm_test_runs_check_as_the_service_would_be_run() -> None:
    manifests = rendered(values_of())
    check = only(manifests, "Pod", "imaging-check")
    assert check["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = check["spec"]["containers"]
    (sidecar,) = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["check", "--config", "/etc/smart-imaging-sidecar/config.yaml"]
    assert container["image"] == sidecar["image"]
    assert container["volumeMounts"] == sidecar["volumeMounts"]
    # A namespace with a quota takes no pod without.
    assert container["resources"] == sidecar["resources"]


def test_an_image_by_digest() -> None:
    digest = "sha256:" + "a" * 64
    values = values_of() | {
        "image": {"repository": "registry.example.org/imaging", "digest": digest}
    }
    (container,) = only(rendered(values), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.org/imaging@{digest}"


def test_no_secret_is_written_out() -> None:
    """By reference alone: what the chart makes holds no Secret and no environment variable with
    one.
    """
    for example in EXAMPLES:
        manifests = rendered(yaml.safe_load(example.read_text()))
        assert not [one for one in manifests if one["kind"] == "Secret"]
        for pod in pods(manifests):
            assert not [container for container in pod["containers"] if container.get("env")]


PARENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: orthanc}
spec:
  selector: {matchLabels: {app: orthanc}}
  template:
    metadata:
      labels:
        app: orthanc
        {{- $sidecar := index .Subcharts "smart-imaging-sidecar" }}
        {{- include "smart-imaging-sidecar.selector" $sidecar | nindent 8 }}
    spec:
      containers:
        - {name: orthanc, image: orthanc}
        {{- include "smart-imaging-sidecar.container" $sidecar | nindent 8 }}
      volumes:
        {{- include "smart-imaging-sidecar.volumes" $sidecar | nindent 8 }}
"""


def test_in_a_pod_of_yours(tmp_path: Path) -> None:
    """docs/kubernetes.md: a chart that has ours as a dependency puts the container beside its
    own.
    """
    (tmp_path / "templates").mkdir()
    about_ours = yaml.safe_load((CHART / "Chart.yaml").read_text())
    dependency = {"name": "smart-imaging-sidecar", "version": about_ours["version"]}
    about = {
        "apiVersion": "v2",
        "name": "archive",
        "version": "1.0.0",
        "dependencies": [dependency],
    }
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(about))
    (tmp_path / "templates" / "deployment.yaml").write_text(PARENT)
    shutil.copytree(CHART, tmp_path / "charts" / "smart-imaging-sidecar")
    ours = values_of() | {"deployment": {"enabled": False}}
    manifests = rendered({"smart-imaging-sidecar": ours}, tmp_path)
    (deployment,) = (one for one in manifests if one["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    names = [container["name"] for container in template["spec"]["containers"]]
    assert names == ["orthanc", "sidecar"]
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in template["spec"]["containers"][1]["volumeMounts"]} <= volumes
    selector = only(manifests, "Service")["spec"]["selector"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert not [
        one
        for one in manifests
        if one["kind"] in ("PodDisruptionBudget", "HorizontalPodAutoscaler")
    ]
