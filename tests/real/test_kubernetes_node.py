"""The chart's pods on a node: the image of the Dockerfile, in front of a real Orthanc
(.ci/cluster).
"""

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.background import Background
from tests.fakes.ehr import PATIENT
from tests.helm.rendering import helm, values_of
from tests.helm.schema import CHART
from tests.real.kubernetes import cluster, wait_for
from tests.real.kubernetes.node import ADDRESS, Node, make_network, require_node
from tests.real.kubernetes.site import (
    ARCHIVE,
    AUTHORIZED,
    FOREIGN,
    INSTANCES,
    NAMESPACE,
    OWN,
    Site,
    running,
)

pytestmark = pytest.mark.node

RETRIEVE = AUTHORIZED | {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}


def values(ehr: int) -> dict[str, Any]:
    """Those of the Orthanc example, with an EHR that is there."""
    found = {key: values_of()[key] for key in ("config", "secrets", "networkPolicy")}
    found["config"] |= {
        "ehr": {"fhir_url": f"http://{ADDRESS}:{ehr}/fhir"},
        "patients": {"mapping": "direct"},
        # A busy machine takes its time between the end of the first pod and that of the last.
        "server": {"public_url": "http://imaging.example.org", "drain_seconds": 120},
    }
    found["config"]["pacs"].pop("changes_url", None)
    return found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    require_node()
    make_network()
    names = {f"orthanc.{NAMESPACE}.svc.cluster.local": ARCHIVE}
    with cluster(with_nodes=True) as kubernetes, Background() as background:
        # Its mounts go with their namespace; .ci/cluster removes it then.
        scratch = tempfile.mkdtemp()
        Node(kubernetes, Path(scratch), names).start()
        kubernetes.namespace(NAMESPACE)
        kubernetes.namespace("monitoring")
        one = Site(kubernetes, background)
        one.set_secret("first")
        one.start_archive()
        with one.helm:
            yield one


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    """``helm install --wait``, with all pods ready at its end."""
    site.helm.install(
        CHART, "imaging", values(site.ehr), namespace=NAMESPACE, wait="watcher", timeout=120
    )
    # A moment behind.
    wait_for(lambda: requests.get(f"{site.fhir}/metadata", timeout=60).ok, "kube-proxy")
    return site


def test_it_serves_the_patient_and_nobody_else(installed: Site) -> None:
    assert installed.search() == 1
    own = requests.get(
        f"{installed.fhir}/Patient/{PATIENT}/$wado-rs/studies/{OWN}", headers=RETRIEVE, timeout=60
    )
    assert own.status_code == 200
    assert own.content.count(b"DICM") == INSTANCES
    url = f"{installed.fhir}/Patient/{PATIENT}/$wado-rs/studies/{FOREIGN}"
    assert requests.get(url, headers=RETRIEVE, timeout=60).status_code == 404
    assert requests.get(f"{installed.fhir}/ImagingStudy", timeout=60).status_code == 401


def test_helm_test_runs_check_in_the_cluster(installed: Site) -> None:
    installed.helm.test("imaging", timeout=60)
    said = installed.kubernetes.log("imaging-check", namespace=NAMESPACE)
    for line in ("ok    tokens.introspection", "ok    pacs.dialect", "ok    pacs.studies"):
        assert line in said
    assert len([pod for pod in installed.pods() if pod["status"]["phase"] == "Running"]) == 2


def test_the_process_may_do_nothing_that_it_need_not(installed: Site) -> None:
    """As the kernel has it, not as the manifest says."""
    supervisors = running()
    assert len(supervisors) == 2
    workers = [worker for process in supervisors for worker in process.children()]
    assert len(workers) == 2
    for process in (*supervisors, *workers):
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert {
            int(status[one], 16) for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        } == {0}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        mounts = [
            line.split() for line in Path(f"/proc/{process.pid}/mounts").read_text().splitlines()
        ]
        (root,) = (options.split(",") for _, place, _, options, *_ in mounts if place == "/")
        assert "ro" in root
        assert not [place for _, place, *_ in mounts if "serviceaccount" in place]


def test_network_policies_hold(installed: Site) -> None:
    """Only the sidecar (and `helm test`) reaches the archive, only Prometheus the admin port,
    everybody the public.
    """
    pod = installed.pods()[0]["status"]["podIP"]
    # The kubelet may: else no probe would be answered. So asks a pod, not this machine.
    assert installed.reaches("default", ARCHIVE, 8042) is False
    assert installed.reaches(NAMESPACE, ARCHIVE, 8042) is False
    assert (
        installed.reaches(
            NAMESPACE, ARCHIVE, 8042, {"app.kubernetes.io/name": "smart-imaging-sidecar"}
        )
        is False
    )
    ours = {
        "app.kubernetes.io/name": "smart-imaging-sidecar-check",
        "app.kubernetes.io/instance": "imaging",
    }
    assert installed.reaches(NAMESPACE, ARCHIVE, 8042, ours) is True
    assert installed.reaches(NAMESPACE, pod, 9090) is False
    assert installed.reaches("monitoring", pod, 9090) is True
    assert installed.reaches("default", pod, 8080) is True
    assert installed.reaches("default", pod, 9090) is False


def test_a_roll_out_under_load_breaks_nothing(installed: Site) -> None:
    """New pods before old ones go, requests all the while, and a download that takes longer than
    all of it.
    """
    base = installed.fhir
    seen: Counter[object] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:  # A connection of its own each time, as from many clients.
                url = f"{base}/ImagingStudy?patient={PATIENT}"
                seen[requests.get(url, headers=AUTHORIZED, timeout=60).status_code] += 1
            except requests.RequestException as error:
                seen[repr(error)] += 1

    upgraded = threading.Event()

    def download() -> tuple[int, int]:
        """Retrieve a study slowly until the upgrade is over. Return the status and the bytes."""
        with requests.get(url, headers=RETRIEVE, stream=True, timeout=60) as answer:
            size = 0
            for piece in answer.iter_content(2**16):
                size += len(piece)
                upgraded.wait(0.5)
            return answer.status_code, size

    url = f"{base}/Patient/{PATIENT}/$wado-rs/studies/{OWN}"
    whole = len(requests.get(url, headers=RETRIEVE, timeout=60).content)
    before = {pod["metadata"]["name"] for pod in installed.pods()}
    threads = [threading.Thread(target=ask) for _ in range(3)]
    with ThreadPoolExecutor() as executor:
        downloaded = executor.submit(download)
        for thread in threads:
            thread.start()
        try:
            changed = values(installed.ehr)
            changed["config"]["fhir"]["timezone"] = "Europe/Vienna"
            installed.upgrade(changed)
            is_running_still = not downloaded.done()
            upgraded.set()
            wait_for(
                lambda: not before & {pod["metadata"]["name"] for pod in installed.pods()},
                "the old pods' end",
            )
        finally:
            upgraded.set()
            over.set()
            for thread in threads:
                thread.join()
        assert downloaded.result() == (200, whole)
    assert is_running_still
    assert set(seen) == {200}, seen
    assert seen[200] > 100


def test_a_renewed_secret_is_used_without_a_restart(installed: Site) -> None:
    """As the kubelet writes it into the volume, by links."""
    wanted = values(installed.ehr)
    wanted["config"]["server"]["reload_seconds"] = 1
    installed.upgrade(wanted)
    assert installed.search() == 1
    assert installed.client_secret == "first"
    before = {process.pid for process in running()}
    installed.set_secret("renewed")
    wait_for(
        lambda: installed.search() == 1 and installed.client_secret == "renewed",
        "the new secret",
    )
    assert {process.pid for process in running()} <= before


def test_audit_events_outlive_a_container_that_is_killed(installed: Site) -> None:
    """While the repository is down: what was answered is told by the container that follows."""
    wanted = values(installed.ehr) | {"spool": {"enabled": True}, "replicaCount": 1}
    folder = "/var/spool/smart-imaging-sidecar/audit"
    repository = {"url": f"http://{ADDRESS}:{installed.audit}/fhir"}
    wanted["config"]["audit"] = {
        "sink": "fhir",
        "repository": repository,
        "spool": {"folder": folder},
    }
    installed.repository.status = 503
    installed.upgrade(wanted)
    wait_for(lambda: len(running()) == 1, "the old pods' end")
    for _ in range(10):
        assert installed.search() == 1
    (process,) = running()
    process.kill()
    installed.repository.status = None
    wait_for(lambda: len(installed.repository.events) >= 10, "the events")
    (pod,) = [one for one in installed.pods() if one["status"]["phase"] == "Running"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1


def test_an_orthanc_in_the_same_pod_is_reached_by_nobody_else(installed: Site) -> None:
    """The all-in-one example."""
    site = installed
    namespace = site.kubernetes.namespace("trial")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "imaging-sidecar"},
        "stringData": {"client_secret": "x"},
    }
    site.kubernetes.apply(secret, namespace=namespace)
    wanted = values_of("all-in-one")
    wanted["config"]["ehr"]["fhir_url"] = f"http://{ADDRESS}:{site.ehr}/fhir"
    with helm.Config(kubeconfig_content=site.kubernetes.kubeconfig, namespace=namespace) as release:
        release.install(CHART, "trial", wanted, namespace=namespace, wait="watcher", timeout=120)
        (pod,) = site.kubernetes.all("Pod", namespace=namespace)
        address = pod["status"]["podIP"]
        answer = requests.get(
            f"http://{address}:8080/fhir/ImagingStudy", headers=AUTHORIZED, timeout=60
        )
        # The Orthanc beside it, which is empty.
        assert (answer.status_code, answer.json()["total"]) == (200, 0)
        # It listens to all, and answers nobody outside the pod; nor can other pods connect.
        assert requests.get(f"http://{address}:8042/dicom-web/studies", timeout=60).status_code in (
            401,
            403,
        )
        assert site.reaches(namespace, address, 8042) is False
        assert site.reaches(namespace, address, 8080) is True


def test_an_ehr_that_is_not_there_keeps_pods_from_being_ready_and_helm_test_says_so(
    installed: Site,
) -> None:
    """The last test: the old pods go on serving, since new ones never become ready."""
    wrong = values(installed.ehr)
    wrong["config"]["ehr"]["fhir_url"] = f"http://{ADDRESS}:1/fhir"
    with pytest.raises(helm.HelmError):
        installed.upgrade(wrong, seconds=20)
    assert installed.search() == 1
    with pytest.raises(helm.HelmError):
        installed.helm.test("imaging", timeout=60)
    said = installed.kubernetes.log("imaging-check", namespace=NAMESPACE)
    assert "FAIL  ehr.smart_configuration" in said
    installed.helm.rollback("imaging", version=1, wait="watcher", timeout=120)
    wait_for(lambda: installed.search() == 1, "the search")
