"""Count decisions and report to operators what needs their attention."""

import logging
from collections.abc import Collection

from sidecar.access.permits import Deny
from sidecar.access.reasons import Reason
from sidecar.audit.record import AccessRecord
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Denied(Exception):
    """The request is refused; ``web.errors`` makes the answer.

    ``series``: SeriesInstanceUIDs that the caller may have instead.
    """

    def __init__(self, reason: Reason, series: frozenset[str] = frozenset()) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.series = series


class DecisionLog:
    """Counts each decision once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def permitted(self, what: str) -> None:
        """Count a permit for ``what``: an interaction, or ``study``."""
        self._metrics.decisions.labels("permit", what).inc()

    def denied(self, record: AccessRecord, deny: Deny) -> Denied:
        """Count a refusal, and return the exception to raise."""
        self._metrics.decisions.labels("deny", deny.reason.value).inc()
        if deny.reason is Reason.SHARED_UID:
            self._report_shared(record, 1)
        return Denied(deny.reason, deny.series)

    def left_out(self, record: AccessRecord, shared: Collection[str]) -> None:
        """Report studies that are left out of a list: their UIDs are another patient's, too."""
        new = frozenset(shared) - record.left_out
        if new:
            record.left_out |= new
            self._report_shared(record, len(new))

    def foreign_inside(self, record: AccessRecord, *, is_corrected: bool) -> None:
        """Report an instance that names another patient than the rows of its study.

        It is an alarm unless the archive was corrected meanwhile.
        """
        log.log(
            logging.WARNING if is_corrected else logging.ERROR,
            "an instance is not the patient's as whose the archive lists it",
            extra={
                "reason": "corrected" if is_corrected else "foreign_instance",
                "request_id": record.request_id,
            },
        )
        if not is_corrected:
            self._metrics.observe_foreign("instance")

    def issued(self, count: int) -> None:
        """Count capability URLs that were issued."""
        self._metrics.capability_urls_issued.inc(count)

    def _report_shared(self, record: AccessRecord, count: int) -> None:
        self._metrics.shared_uids.inc(count)
        log.warning(
            "a StudyInstanceUID stands under another patient as well: "
            "refused to both, and left out of lists",
            extra={
                "reason": Reason.SHARED_UID.value,
                "studies": count,
                "request_id": record.request_id,
            },
        )
