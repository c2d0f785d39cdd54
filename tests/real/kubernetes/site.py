"""A cluster with an archive, an EHR and the chart."""

import tempfile
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml
from aiohttp import BasicAuth, web

from tests.audit.fhir_repository import FhirRepository
from tests.background import Background
from tests.data import ct_study
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, active, to_the_token
from tests.helm.rendering import helm
from tests.helm.schema import CHART
from tests.real.kubernetes import Cluster, wait_for
from tests.real.kubernetes.node import ADDRESS

NAMESPACE, ARCHIVE = "imaging", "10.96.0.42"
OWN, FOREIGN = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
INSTANCES = 40
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
SETTINGS = """{"StorageDirectory": "/data", "IndexDirectory": "/data", "RemoteAccessAllowed": true,
"AuthenticationEnabled": false, "DicomServerEnabled": false,
"Plugins": ["/usr/share/orthanc/plugins"],
"DicomWeb": {"Enable": true, "Root": "/dicom-web/"}}"""
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Again and again: whoever enforces policies hears of a new pod a moment after it has begun.
_REACH = """
import socket, sys, time
until = time.monotonic() + 8
while time.monotonic() < until:
    try:
        socket.create_connection(({host!r}, {port}), 2)
        print("yes")
        sys.exit(0)
    except OSError:
        time.sleep(0.2)
print("no")
sys.exit(1)
"""
LABELS = {"app.kubernetes.io/name": "orthanc"}


def orthanc() -> list[dict[str, Any]]:
    """An Orthanc with its DICOMweb plugin as a hospital would have it: a Deployment behind a
    Service.
    """
    image = values_of_chart()["orthanc"]["image"]
    container = {
        "name": "orthanc",
        "image": image,
        "args": ["/etc/settings"],
        "securityContext": RESTRICTED,
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/settings"},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    volumes = [
        {"name": "settings", "configMap": {"name": "orthanc"}},
        {"name": "data", "emptyDir": {}},
    ]
    pod = {"containers": [container], "volumes": volumes, "securityContext": {"fsGroup": 10001}}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "orthanc"},
            "data": {"orthanc.json": SETTINGS},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "orthanc"},
            "spec": {
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "orthanc"},
            "spec": {"clusterIP": ARCHIVE, "selector": LABELS, "ports": [{"port": 8042}]},
        },
    ]


def values_of_chart() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


class Site:
    """A cluster with an Orthanc, which has a study of the token's patient and one of another, and
    with an EHR.
    """

    def __init__(self, kubernetes: Cluster, background: Background) -> None:
        self.kubernetes = kubernetes
        self.stub = ScriptedEhr(answer=to_the_token(active(PATIENT)))
        self.repository = FhirRepository()
        self.ehr = background.serve(self.stub.app(), host=ADDRESS)
        audit = web.Application()
        audit.router.add_route("*", "/fhir{path:.*}", self.repository.handle)
        self.audit = background.serve(audit, host=ADDRESS)
        self.helm = helm.Config(kubeconfig_content=kubernetes.kubeconfig, namespace=NAMESPACE)

    @property
    def client_secret(self) -> str:
        """The secret that came with the last introspection."""
        authorization = BasicAuth.decode(self.stub.requests[-1]["authorization"])
        return str(authorization.password)

    def set_secret(self, client_secret: str) -> None:
        """Ours at the EHR, and what else the example mounts."""
        data = {"client_secret": client_secret, "private_key.pem": "unused", "link_key": "ab" * 32}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "imaging-sidecar"},
            "stringData": data,
        }
        self.kubernetes.apply(secret, namespace=NAMESPACE)

    def upgrade(self, wanted: dict[str, Any], seconds: int = 120) -> None:
        """``helm upgrade --wait``."""
        self.helm.upgrade(
            CHART,
            "imaging",
            wanted,
            namespace=NAMESPACE,
            wait="watcher",
            timeout=seconds,
            reset_values=True,
        )

    def start_archive(self) -> None:
        for one in orthanc():
            self.kubernetes.apply(one, namespace=NAMESPACE)
        with tempfile.TemporaryDirectory() as scratch:
            own = ct_study(
                Path(scratch) / "own",
                instances=INSTANCES,
                patient_id=PATIENT,
                study_instance_uid=OWN,
            )
            foreign = ct_study(
                Path(scratch) / "foreign", instances=1, patient_id="p2", study_instance_uid=FOREIGN
            )
            url = f"http://{ARCHIVE}:8042"
            wait_for(lambda: requests.get(url + "/statistics", timeout=60).ok, "Orthanc")
            for file in (*own, *foreign):
                requests.post(
                    url + "/instances", data=file.read_bytes(), timeout=60
                ).raise_for_status()

    @property
    def fhir(self) -> str:
        """The base behind the chart's Service."""
        address = self.kubernetes.get("Service", "imaging", namespace=NAMESPACE)["spec"][
            "clusterIP"
        ]
        return f"http://{address}/fhir"

    def search(self) -> int:
        answer = requests.get(
            f"{self.fhir}/ImagingStudy?patient={PATIENT}", headers=AUTHORIZED, timeout=60
        )
        assert answer.status_code == 200, answer.text
        total: int = answer.json()["total"]
        return total

    def reaches(
        self, namespace: str, host: str, port: int, labels: dict[str, str] | None = None
    ) -> bool:
        """Whether a pod of this namespace, with these labels, gets a connection."""
        script = _REACH.format(host=host, port=port)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "stranger", "labels": labels or {}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "stranger",
                        "image": f"smart-imaging-sidecar:{version()}",
                        "command": ["python", "-c", script],
                        "securityContext": RESTRICTED,
                    }
                ],
            },
        }
        self.kubernetes.apply(pod, namespace=namespace)

        def phase() -> str | None:
            found: str = self.kubernetes.get("Pod", "stranger", namespace=namespace)["status"][
                "phase"
            ]
            return found if found in ("Succeeded", "Failed") else None

        ended = wait_for(phase, "the stranger")
        said = self.kubernetes.log("stranger", namespace=namespace)
        self.kubernetes.delete("Pod", "stranger", namespace=namespace)
        wait_for(
            lambda: not self.kubernetes.find("Pod", "stranger", namespace=namespace),
            "the stranger's end",
        )
        assert said.split() == ["yes" if ended == "Succeeded" else "no"], said
        return bool(ended == "Succeeded")

    def pods(self) -> list[dict[str, Any]]:
        label = "app.kubernetes.io/name=smart-imaging-sidecar"
        return self.kubernetes.all("Pod", namespace=NAMESPACE, labels=label)


def running() -> list[psutil.Process]:
    """Return the supervisors of the sidecars on this node. Their workers have the same command."""
    serving = {
        process.pid: process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if "serve" in (process.info["cmdline"] or ())
    }
    return [process for process in serving.values() if process.info["ppid"] not in serving]


def version() -> str:
    found: str = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    return found
