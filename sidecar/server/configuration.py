"""The configuration as the supervisor holds it: what it needs itself, and the settings as bytes.

The supervisor stays small: it never sees the settings, which pydantic reads.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration that was read and found good.

    ``settings``: the pickled ``Settings``, so that a worker that is started later has the same.
    ``workers``: number of worker processes. ``files``: those that the settings name.
    """

    host: str
    port: int
    admin_host: str
    admin_port: int
    workers: int
    drain_seconds: float
    reload_seconds: float
    log_level: str
    files: Sequence[str]
    settings: bytes

    def encode(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self) | {"settings": base64.b64encode(self.settings).decode()}

    @staticmethod
    def decode(encoded: Mapping[str, Any]) -> "Configuration":
        """Return what was encoded."""
        return Configuration(**{**encoded, "settings": base64.b64decode(encoded["settings"])})
