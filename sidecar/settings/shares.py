"""The share that each worker of a host has of the limits that the settings give the host."""

from dataclasses import replace

from sidecar.settings.document import Settings

SHARED = ("client_connections", "retrievals", "pacs_connections")
"""The keys of ``limits`` that are divided."""


def share_of_worker(settings: Settings, workers: int) -> Settings:
    """Return the settings of one of ``workers``, with its even share of the limits, at least 1."""
    shares = {key: max(1, getattr(settings.limits, key) // workers) for key in SHARED}
    return replace(settings, limits=replace(settings.limits, **shares))
