"""The configuration as the supervisor holds it, for workers that it starts later, too."""

import base64
import pickle
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.settings.document import Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration that was read and found good.

    ``workers``: number of worker processes. ``files``: those that the settings name.
    """

    settings: Settings
    workers: int
    files: Sequence[str]

    def encode(self) -> str:
        """Return it as a text for the channel."""
        return base64.b64encode(pickle.dumps(self)).decode()

    @staticmethod
    def decode(encoded: str) -> "Configuration":
        """Return what was encoded."""
        decoded = pickle.loads(base64.b64decode(encoded))  # noqa: S301 - of our own child
        assert isinstance(decoded, Configuration)  # noqa: S101
        return decoded
