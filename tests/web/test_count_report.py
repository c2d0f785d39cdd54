"""Studies whose numbers are not those of their rows: a log line and a count, once for each, and no
identifier.
"""

import logging
from typing import Any

import aiohttp
import pytest

from sidecar.fhir.imaging_study import SeriesRows
from sidecar.telemetry.metrics import Metrics
from sidecar.web import count_report
from sidecar.web.count_report import REPORTED_SECONDS, CountReport
from tests.common.peer import Clock
from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import nothing
from tests.fakes.site import HEADERS, sidecar_between
from tests.fhir.rows import row


def study(uid: str) -> Any:
    return row(StudyInstanceUID=uid, NumberOfStudyRelatedSeries=2)


SERIES = [SeriesRows(row(SeriesInstanceUID="1.1"))]


def counted(metrics: Metrics, attribute: str = "NumberOfStudyRelatedSeries") -> float:
    labels = {"attribute": attribute}
    return metrics.registry.get_sample_value("smart_imaging_count_mismatches_total", labels) or 0


def test_a_study_is_reported_once_in_a_while() -> None:
    metrics, clock = Metrics("1"), Clock()
    report = CountReport(metrics, clock)
    for uid, seconds, expected in (
        ("1.2", 0, 1),
        ("1.2", 1, 1),
        ("1.3", 0, 2),
        ("1.2", REPORTED_SECONDS, 3),
    ):
        clock.now += seconds
        report.note(study(uid), SERIES, "r1")
        assert counted(metrics) == expected


def test_what_agrees_is_not_reported() -> None:
    metrics = Metrics("1")
    CountReport(metrics, Clock()).note(
        study("1.2"), [*SERIES, SeriesRows(row(SeriesInstanceUID="1.2"))], "r1"
    )
    assert counted(metrics) == 0


def test_no_more_than_so_many_are_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(count_report, "REPORTED_STUDIES", 3)
    metrics, clock = Metrics("1"), Clock()
    report = CountReport(metrics, clock)
    for _ in range(2):
        for number in range(9):
            report.note(study(f"1.2.{number}"), SERIES, "r1")
    assert counted(metrics) == len(caplog.records) == 3
    clock.now += REPORTED_SECONDS
    report.note(study("1.2.8"), SERIES, "r1")
    assert counted(metrics) == 4


@pytest.mark.parametrize(("stated", "listed", "mismatch"), [(5, 3, 1), (3, 5, 1), (5, 5, 0)])
async def test_a_search_with_instances(
    stated: int, listed: int, mismatch: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Searched for twice, logged and counted once; the log names nobody."""
    pacs = ScriptedPacs(nothing, instances=stated, listed=listed)
    changes: dict[str, Any] = {"fhir": {"detail": "instance"}}
    async with (
        sidecar_between(ScriptedEhr(), pacs, **changes) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        with caplog.at_level(logging.WARNING, "sidecar.web.count_report"):
            for _ in range(2):
                async with client.get(
                    f"{url}/fhir/ImagingStudy?patient={PATIENT}", headers=HEADERS
                ) as answer:
                    assert answer.status == 200
        assert counted(sidecar.metrics, "NumberOfSeriesRelatedInstances") == mismatch
    lines = [vars(one) for one in caplog.records if one.name == "sidecar.web.count_report"]
    assert len(lines) == mismatch
    assert not any(STUDY in str(line) or PATIENT in str(line).split("'") for line in lines)
