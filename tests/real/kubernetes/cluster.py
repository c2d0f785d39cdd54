"""etcd, kube-apiserver and kube-controller-manager on free loopback ports, with the CRDs that the
chart makes use of.

Without a node no container runs; everything that comes before is as in any cluster: strict
validation by the server itself, defaults, immutable fields, admission (Pod Security Standards), the
custom resources' own schemas and rules, and the controllers that make pods, endpoints and budgets
of what they are told.
"""

import base64
import contextlib
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.installed import installed
from tests.sidecar_process import free_port
from tests.waiting import wait_until

BUILD = Path(__file__).parent.parent.parent.parent / "build"
PROGRAMS = BUILD / "kubernetes"
CRDS = PROGRAMS / "crds"
NOT_INSTALLED = "no Kubernetes in build/kubernetes: make kubernetes (needs Go)"
_NODE = "node"

# Where the objects of a kind are: group and version, and the name in the path.
RESOURCES = {
    "ConfigMap": ("api/v1", "configmaps"),
    "CustomResourceDefinition": ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices"),
    "Event": ("api/v1", "events"),
    "HTTPRoute": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    "Ingress": ("apis/networking.k8s.io/v1", "ingresses"),
    "Namespace": ("api/v1", "namespaces"),
    "Node": ("api/v1", "nodes"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "Pod": ("api/v1", "pods"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "PodMonitor": ("apis/monitoring.coreos.com/v1", "podmonitors"),
    "PrometheusRule": ("apis/monitoring.coreos.com/v1", "prometheusrules"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "Secret": ("api/v1", "secrets"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "ServiceMonitor": ("apis/monitoring.coreos.com/v1", "servicemonitors"),
}
_WITHOUT_NAMESPACE = {"CustomResourceDefinition", "Namespace", "Node"}


class Refused(Exception):
    """The API server's own words."""


def require_kubernetes() -> None:
    """Skip the test where it is not installed; with REQUIRE_REAL_SERVERS set, fail."""
    installed((PROGRAMS / "kube-apiserver").exists(), NOT_INSTALLED)


class Cluster:
    """A running one; ``kubeconfig`` is that of its administrator, as text."""

    def __init__(self, folder: Path, *, with_nodes: bool = False) -> None:
        self._folder = folder
        self._with_nodes = with_nodes
        self._processes: list[subprocess.Popen[bytes]] = []
        self._token = secrets.token_hex(16)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {self._token}"
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = ""

    def start(self) -> None:
        """Start all of it, and install the CRDs."""
        store = self._start_etcd()
        self._start_api_server(store)
        self._start_controllers()
        for file in sorted(CRDS.glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())
            self.apply(definition)
            name = definition["metadata"]["name"]
            wait_for(lambda name=name: self._is_established(name), f"CRD {name}")  # type: ignore[misc]
        wait_for(lambda: self.find("ServiceAccount", "default"), "the controllers")
        if not self._with_nodes:
            self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": _NODE}})

    def _start_etcd(self) -> str:
        url, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.run(
            PROGRAMS / "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        return url

    def _start_api_server(self, store: str) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._account_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self._folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        self.run(
            PROGRAMS / "kube-apiserver",
            f"--etcd-servers={store}",
            f"--cert-dir={self._folder / 'certificates'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._account_key}",
            f"--service-account-key-file={self._account_key}",
            "--enable-priority-and-fairness=false",
            "--endpoint-reconciler-type=none",
            "--allow-privileged",
            "--kubelet-preferred-address-types=InternalIP",
        )
        authority = self._folder / "certificates" / "apiserver.crt"
        wait_for(authority.exists, "the API server's certificate")
        self._session.verify = str(authority)
        wait_for(lambda: self._session.get(f"{self.url}/readyz", timeout=60).ok, "the API server")
        self.kubeconfig = yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [
                    {
                        "name": "test",
                        "cluster": {
                            "server": self.url,
                            "certificate-authority-data": base64.b64encode(
                                authority.read_bytes()
                            ).decode(),
                        },
                    }
                ],
                "users": [{"name": "admin", "user": {"token": self._token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            }
        )

    @property
    def _account_key(self) -> Path:
        return self._folder / "service-accounts.key"

    def _start_controllers(self) -> None:
        (self._folder / "kubeconfig").write_text(self.kubeconfig)
        self.run(
            PROGRAMS / "kube-controller-manager",
            f"--kubeconfig={self._folder / 'kubeconfig'}",
            f"--service-account-private-key-file={self._account_key}",
            "--leader-elect=false",
            f"--root-ca-file={self._folder / 'certificates' / 'apiserver.crt'}",
            f"--cert-dir={self._folder / 'controllers'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--controllers=*" + ("" if self._with_nodes else ",-nodelifecycle"),
            "--horizontal-pod-autoscaler-sync-period=1s",
        )

    def run(self, program: Path, *arguments: str) -> None:
        """Have a program run beside it, until it stops."""
        with (self._folder / f"{program.name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(program), *arguments], cwd=self._folder, stdout=log, stderr=log
                )
            )

    def said(self) -> str:
        """The last lines that each program wrote."""
        return "\n".join(
            f"--- {file.name}\n{file.read_text()[-1_500:]}"
            for file in sorted(self._folder.glob("*.log"))
        )

    def stop(self) -> None:
        """End all of it, the last one first."""
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()

    def _is_established(self, name: str) -> bool:
        conditions = self.get("CustomResourceDefinition", name)["status"]["conditions"] or ()
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    def namespace(self, name: str, *, accounts: Sequence[str] = ()) -> str:
        """Make a namespace with these accounts, which takes pods by the restricted Pod Security
        Standard alone.
        """
        labels = {
            f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")
        }
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )
        for account in accounts:
            self.apply(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
                namespace=name,
            )
        wait_for(
            lambda: self.find("ServiceAccount", "default", namespace=name),
            "the namespace's account",
        )
        return name

    def apply(
        self, resource: dict[str, Any], *, namespace: str = "default", dry_run: bool = False
    ) -> dict[str, Any]:
        """Have it so, by server-side apply; raises ``Refused``, for a warning or an unknown field,
        too.
        """
        parameters = {"fieldManager": "test", "fieldValidation": "Strict", "force": "true"}
        answer = self._session.patch(
            self._path(resource["kind"], resource["metadata"]["name"], namespace),
            params=parameters | ({"dryRun": "All"} if dry_run else {}),
            data=yaml.safe_dump(resource),
            headers={"Content-Type": "application/apply-patch+yaml"},
            timeout=60,
        )
        if not answer.ok or "Warning" in answer.headers:
            raise Refused(answer.headers.get("Warning") or answer.json()["message"])
        return dict(answer.json())

    def bind(self, pod: str, *, namespace: str = "default") -> None:
        """Give the pod to the node, which is there in name only."""
        target = {"apiVersion": "v1", "kind": "Node", "name": _NODE}
        binding: Any = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": target,
        }
        answer = self._session.post(
            self._path("Pod", pod, namespace) + "/binding", json=binding, timeout=60
        )
        if not answer.ok:
            raise Refused(answer.json()["message"])

    def set_status(
        self, kind: str, name: str, status: dict[str, Any], *, namespace: str = "default"
    ) -> None:
        """Say how it is, as a node does of its pods."""
        answer = self._session.patch(
            self._path(kind, name, namespace) + "/status",
            json={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
            timeout=60,
        )
        if not answer.ok:
            raise Refused(answer.json()["message"])

    def get(self, kind: str, name: str, *, namespace: str = "default") -> dict[str, Any]:
        """It, as the server has it."""
        answer = self._session.get(self._path(kind, name, namespace), timeout=60)
        if not answer.ok:
            raise Refused(answer.json()["message"])
        return dict(answer.json())

    def find(self, kind: str, name: str, *, namespace: str = "default") -> dict[str, Any] | None:
        """It, when it is there."""
        with contextlib.suppress(Refused):
            return self.get(kind, name, namespace=namespace)
        return None

    def all(
        self, kind: str, *, namespace: str = "default", labels: str = ""
    ) -> list[dict[str, Any]]:
        """All of a kind in this namespace, with these labels (``name=value,…``)."""
        path = self._path(kind, "", namespace)
        answer = self._session.get(path, params={"labelSelector": labels}, timeout=60)
        answer.raise_for_status()
        return list(answer.json()["items"])

    def log(self, pod: str, *, namespace: str = "default") -> str:
        """What its container wrote."""
        return self._session.get(self._path("Pod", pod, namespace) + "/log", timeout=60).text

    def delete(self, kind: str, name: str, *, namespace: str = "default") -> None:
        """Have it gone."""
        self._session.delete(self._path(kind, name, namespace), timeout=60).raise_for_status()

    def after(self, condition: Callable[[], Any], act: Callable[[], None]) -> None:
        """Do it, in a thread of its own, once that is so."""

        def wait_and_act() -> None:
            wait_for(condition, "what is to come")
            act()

        threading.Thread(target=wait_and_act, daemon=True).start()

    def _path(self, kind: str, name: str, namespace: str) -> str:
        group, resources = RESOURCES[kind]
        middle = "" if kind in _WITHOUT_NAMESPACE else f"/namespaces/{namespace}"
        return f"{self.url}/{group}{middle}/{resources}" + (f"/{name}" if name else "")


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Wait until it is true, and return it; who is asked, or what is asked for, may not be there
    yet.
    """
    return wait_until(what, condition, not_yet=(OSError, KeyError))


@contextlib.contextmanager
def cluster(*, with_nodes: bool = False) -> Iterator[Cluster]:
    """Run one; ``with_nodes``: somebody else brings them."""
    require_kubernetes()
    with tempfile.TemporaryDirectory(prefix="kubernetes-", ignore_cleanup_errors=True) as scratch:
        running = Cluster(Path(scratch), with_nodes=with_nodes)
        try:
            running.start()
            yield running
        except AssertionError as error:
            error.add_note(running.said())
            raise
        finally:
            running.stop()
