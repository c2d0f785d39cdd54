"""Choose the media type for DICOM JSON (PS3.18 F.1.1): some archives know one type alone.

An archive that knows ``application/json`` alone answers 406 or 415. Then the request is repeated
for the other type, and the result is remembered: one request in an hour costs two.
"""

import time
from collections.abc import Callable

from sidecar.dicomweb.accept import DICOM_JSON, PLAIN_JSON

REFUSED = frozenset({406, 415})
REMEMBERED_SECONDS = 3_600
"""Time in seconds for which ``application/json`` is asked for after it was the type that works."""
NEITHER_SECONDS = 60
"""Time in seconds for which no request is repeated after both types were refused."""


class JsonType:
    """Cache the media type that an archive knows. ``clock``: monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plain_until = self._neither_until = float("-inf")

    @property
    def accept(self) -> str:
        """The media type to ask for."""
        return PLAIN_JSON if self._clock() < self._plain_until else DICOM_JSON

    def instead(self, accept: str, status: int) -> str | None:
        """Return the type to repeat a request with after ``accept`` led to ``status``, if any."""
        if status not in REFUSED or self._clock() < self._neither_until:
            return None
        return DICOM_JSON if accept == PLAIN_JSON else PLAIN_JSON

    def learn(self, accept: str, status: int) -> None:
        """Remember the HTTP ``status`` of the repeated request, which was for ``accept``."""
        if status in (200, 204):
            self._plain_until = (
                self._clock() + REMEMBERED_SECONDS if accept == PLAIN_JSON else float("-inf")
            )
        elif status < 500 and status != 429:  # A busy archive has not judged the type.
            self._neither_until = self._clock() + NEITHER_SECONDS
