"""The share that each worker of a host has of the limits that the settings give the host."""

from sidecar.settings.document import Settings


def share_of_worker(settings: Settings, workers: int) -> Settings:
    """Return the settings of one of ``workers``: its even share of connections and retrievals."""
    if workers == 1:
        return settings
    shared = {
        "server": ("max_connections", "max_streams", "max_streams_per_client"),
        "pacs": ("max_connections",),
    }
    return settings.model_copy(
        update={
            section: getattr(settings, section).model_copy(
                update={
                    key: max(1, getattr(getattr(settings, section), key) // workers) for key in keys
                }
            )
            for section, keys in shared.items()
        }
    )
