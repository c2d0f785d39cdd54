"""Report studies of which the archive counts other series or instances than it lists."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from cachetools import TTLCache

from sidecar.dicom.json_model import Row
from sidecar.fhir.imaging_study import SeriesRows, study_uid
from sidecar.fhir.related_counts import ATTRIBUTES, differing
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

REPORTED_SECONDS = 3_600
"""Time in seconds for which a study is not reported again."""
REPORTED_STUDIES = 1_000
"""Limit of studies that are reported in that time; further ones are not."""


class CountReport:
    """Reports each study once, to the log and to ``metrics``. ``clock``: monotonic, in seconds."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        for name in ATTRIBUTES:  # From 0, so that the first is an increase.
            metrics.count_mismatches.labels(name)
        self._reported: TTLCache[str, bool] = TTLCache(REPORTED_STUDIES, REPORTED_SECONDS, clock)
        self._lock = threading.Lock()  # Long studies come from a thread.

    def note(self, row: Row, series: Sequence[SeriesRows], request_id: str) -> None:
        """Compare the study's ``row`` with all its ``series``, and report what differs.

        The log has the request's id and no UID.
        """
        names = differing(row, series)
        uid = study_uid(row)
        with self._lock:
            self._reported.expire()
            if not names or uid in self._reported or len(self._reported) >= REPORTED_STUDIES:
                return
            self._reported[uid] = True
        for name in names:
            self._metrics.count_mismatches.labels(name).inc()
        log.warning(
            "the PACS counts other series or instances of a study than it lists",
            extra={
                "reason": "counts_differ",
                "attributes": names,
                "request_id": request_id,
            },
        )
