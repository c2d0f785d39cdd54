"""The one node of a cluster: kubelet, containerd, scheduler, kube-proxy, DNS, and who enforces
network policies.

All real. It changes this machine's network and mounts, so it runs in namespaces of its own, which
`.ci/cluster` makes.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.real.kubernetes.cluster import PROGRAMS, Cluster, wait_for

IMAGES = PROGRAMS / "images"
NAME, ADDRESS, PODS = "node1", "10.244.0.1", "10.244.0.0/24"
BRIDGE = "pods0"
# Of its own, a bridge takes the least of its ports' addresses: another one with many a pod that
# comes or goes. Until the pods have noticed, what they send to this machine is lost.
BRIDGE_MAC = "02:00:00:00:00:01"
NOT_HERE = "runs containers, in namespaces of its own: sudo .ci/cluster"

_CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/run"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def require_node() -> None:
    """Skip the test outside those namespaces."""
    if not os.environ.get("KUBERNETES_NODE"):
        pytest.skip(NOT_HERE)


def make_network() -> None:
    """In an empty network namespace: the loopback, and the bridge of the pods, where this machine
    has ``ADDRESS``.
    """
    for command in (
        "ip link set lo up",
        f"ip link add {BRIDGE} address {BRIDGE_MAC} type bridge",
        f"ip address add {ADDRESS}/24 dev {BRIDGE}",
        f"ip link set {BRIDGE} up",
        f"ip route add default dev {BRIDGE}",  # The kubelet looks for the interface that has one.
        "sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1",
    ):
        subprocess.run(command.split(), check=True)


class Node:
    """Joins ``cluster``. ``names``: those that its DNS knows, with their addresses."""

    def __init__(self, cluster: Cluster, folder: Path, names: dict[str, str]) -> None:
        self._cluster = cluster
        self._folder = folder
        self._names = names

    def start(self) -> None:
        """Start all of it; it takes pods from then on."""
        kubeconfig = self._folder / "kubeconfig"
        kubeconfig.write_text(self._cluster.kubeconfig)
        self._describe_network()
        self._start_containerd()
        self._cluster.run(
            PROGRAMS / "kube-scheduler", f"--kubeconfig={kubeconfig}", "--leader-elect=false"
        )
        self._start_proxy(kubeconfig)
        self._start_kubelet(kubeconfig)
        names = [f"--address=/{name}/{address}" for name, address in self._names.items()]
        self._cluster.run(
            Path("/usr/sbin/dnsmasq"),
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            *names,
            f"--listen-address={ADDRESS}",
            "--bind-interfaces",
            "--pid-file",
        )
        wait_for(self._is_ready, "the node")
        self._start_policies(kubeconfig)

    def _describe_network(self) -> None:
        bridge = {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self._folder / "addresses"),
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        (self._folder / "cni").mkdir()
        network = {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}
        (self._folder / "cni" / "10-pods.conflist").write_text(json.dumps(network))

    def _start_containerd(self) -> None:
        (self._folder / "containerd.toml").write_text(_CONTAINERD.format(folder=self._folder))
        self._cluster.run(
            Path("/usr/bin/containerd"), f"--config={self._folder / 'containerd.toml'}"
        )
        socket = f"--address={self._folder / 'containerd.sock'}"
        asks = ["ctr", socket, "version"]
        wait_for(
            lambda: subprocess.run(asks, capture_output=True, check=False).returncode == 0,
            "containerd",
        )
        for image in sorted(IMAGES.glob("*.tar")):
            command = ["ctr", socket, "--namespace=k8s.io", "images", "import", str(image)]
            subprocess.run(command, check=True, capture_output=True)

    def _start_proxy(self, kubeconfig: Path) -> None:
        file = self._folder / "kube-proxy.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                    "kind": "KubeProxyConfiguration",
                    "mode": "iptables",
                    "clientConnection": {"kubeconfig": str(kubeconfig)},
                    "hostnameOverride": NAME,
                    "clusterCIDR": PODS,
                    "conntrack": {"maxPerCore": 0},
                }
            )
        )
        self._cluster.run(PROGRAMS / "kube-proxy", f"--config={file}")

    def _start_kubelet(self, kubeconfig: Path) -> None:
        file = self._folder / "kubelet.yaml"
        nothing = dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%")
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kubelet.config.k8s.io/v1beta1",
                    "kind": "KubeletConfiguration",
                    "failCgroupV1": False,
                    "containerRuntimeEndpoint": f"unix://{self._folder / 'containerd.sock'}",
                    "cgroupDriver": "cgroupfs",
                    "authentication": {
                        "anonymous": {"enabled": True},
                        "webhook": {"enabled": False},
                    },
                    "authorization": {"mode": "AlwaysAllow"},
                    "clusterDNS": [ADDRESS],
                    "clusterDomain": "cluster.local",
                    "failSwapOn": False,
                    "enforceNodeAllocatable": [],
                    "evictionHard": nothing,
                    "address": ADDRESS,
                    "resolvConf": "",
                    "syncFrequency": "5s",
                }
            )
        )
        self._cluster.run(
            PROGRAMS / "kubelet",
            f"--kubeconfig={kubeconfig}",
            f"--config={file}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={self._folder / 'kubelet'}",
        )

    def _start_policies(self, kubeconfig: Path) -> None:
        router = PROGRAMS / "kube-router"
        if router.exists():
            self._cluster.run(
                router,
                f"--kubeconfig={kubeconfig}",
                "--run-firewall=true",
                "--run-router=false",
                "--run-service-proxy=false",
                f"--hostname-override={NAME}",
            )

    def _is_ready(self) -> bool:
        node = self._cluster.find("Node", NAME)
        if node is None or "taints" in node["spec"]:
            return False
        return any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in node["status"]["conditions"]
        )
