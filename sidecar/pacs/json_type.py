"""How an archive is asked for DICOM JSON (PS3.18 F.1.1): some know ``application/json`` alone.

They answer 406 or 415. Then the question is asked again for the other type, and what the archive
knows is remembered, so that no request but the first one in an hour costs two.
"""

import time
from collections.abc import Callable

from sidecar.dicomweb.accept import DICOM_JSON, PLAIN_JSON

REFUSED = frozenset({406, 415})
REMEMBERED_SECONDS = 3_600
"""Time in seconds for which an archive that knows ``application/json`` alone is asked for that."""
NEITHER_SECONDS = 60
"""Time in seconds for which nothing is asked for again after both types were refused."""


class JsonType:
    """The media type that one kind of resources is asked for in.

    The clock is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plain_until = self._neither_until = float("-inf")

    @property
    def accept(self) -> str:
        """The media type to ask for."""
        return PLAIN_JSON if self._clock() < self._plain_until else DICOM_JSON

    def instead(self, accept: str, status: int) -> str | None:
        """Return the type to ask for after ``accept`` brought this HTTP ``status``.

        ``None``: none.
        """
        if status not in REFUSED or self._clock() < self._neither_until:
            return None
        return DICOM_JSON if accept == PLAIN_JSON else PLAIN_JSON

    def learn(self, accept: str, status: int) -> None:
        """Remember what came of asking for the other type."""
        if status in (200, 204):
            self._plain_until = (
                self._clock() + REMEMBERED_SECONDS if accept == PLAIN_JSON else float("-inf")
            )
        elif status < 500 and status != 429:  # Else it is busy, and nothing was learned.
            self._neither_until = self._clock() + NEITHER_SECONDS
