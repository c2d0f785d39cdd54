"""A real Kubernetes of a test's own: etcd, its API server and its controllers. No node: pods are
made, and wait.
"""

from tests.real.kubernetes.cluster import Cluster, Refused, cluster, wait_for

__all__ = ["Cluster", "Refused", "cluster", "wait_for"]
