"""What the demo's archive has, for the page: the studies of the phantoms and what each shows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sidecar.demo.archive.index import Index, Series, Study
from sidecar.demo.phantoms.studies import RESEARCH, PhantomStudy, phantom_studies
from sidecar.dicom.json_model import text

HOLD_MINUTES = 4
"""How long a new study is held back."""
TAPE_SECONDS = 15.0
"""How long the archive needs to fetch a study from tape."""


class DemoGuide:
    """Tells of an ``index`` what phantoms are in it; ``None``: of an archive that is not ours."""

    def __init__(
        self, index: Index | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clock = clock
        studies = () if index is None else index.studies
        stored = {text(study.attributes, "StudyInstanceUID"): study for study in studies}
        self._phantoms = [
            (phantom, stored[phantom.facts.uid])
            for phantom in phantom_studies(clock())
            if phantom.facts.uid in stored
        ]

    def document(self) -> dict[str, Any]:
        """Return the guide as JSON."""
        return {
            "now": _instant(self._clock()),
            "studies": [_entry(phantom, study) for phantom, study in self._phantoms],
        }

    def of_another(self, patient: str) -> dict[str, Any] | None:
        """Return the entry of a study that is not the patient's, ``None`` if there is none."""
        entries = (_entry(*one) for one in self._phantoms if one[0].facts.patient.id != patient)
        return next(entries, None)


def _entry(phantom: PhantomStudy, study: Study) -> dict[str, Any]:
    facts = phantom.facts
    date, time = (text(study.attributes, name) or "" for name in ("StudyDate", "StudyTime"))
    opens_at = None
    if phantom.purpose == "embargo":
        began = datetime.strptime(date + time[:6], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        opens_at = _instant(began + timedelta(minutes=HOLD_MINUTES))
    return {
        "patient": facts.patient.id,
        "study": str(facts.uid),
        "purpose": phantom.purpose,
        "title": facts.description,
        "date": f"{date[:4]}-{date[4:6]}-{date[6:]}",
        "note": phantom.note,
        "opens_at": opens_at,
        "tape_seconds": TAPE_SECONDS if phantom.purpose == "slow" else None,
        "series": [_series(series) for series in study.series],
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "series": text(series.attributes, "SeriesInstanceUID"),
        "instances": len(series.instances),
        "first": series.instances[0].part.instance,
        "hidden": text(series.attributes, "SeriesDescription") == RESEARCH,
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
