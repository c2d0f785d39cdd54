"""Read and write ``Settings`` by pydantic."""

from pydantic import TypeAdapter

from sidecar.settings.document import Settings

ADAPTER = TypeAdapter(Settings)
