"""When a study was first seen as it is now: ``meta.lastUpdated``."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.catalog.catalog import Catalog, MemoryStore
from tests.fhir.observing import observe
from tests.fhir.rows import DCM4CHEE, ORTHANC_ULTRASOUND, Row, any_rows, row
from tests.fhir.syncing import START, Clock

MILLISECOND = timedelta(milliseconds=1)


class Archive:
    """Patients' studies, which a catalog looks at as a whole each time."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.patients: dict[str, dict[str, Row]] = {}

    def now(self) -> datetime:
        return self.catalog.now()

    def observe(self, patient: str, uid: str, found: Row) -> datetime:
        """The study looks like this now."""
        studies = self.patients.setdefault(patient, {})
        studies[uid] = {**found, **row(StudyInstanceUID=uid)}
        return observe(self.catalog, patient, list(studies.values()))[uid]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_study_is_new_when_first_seen_and_stays_so(clock: Clock) -> None:
    catalog = Archive(Catalog(clock=clock))
    first = catalog.observe("123", "1.2", DCM4CHEE)
    assert first == datetime.fromtimestamp(START, UTC) + MILLISECOND
    clock.ticks += 5_000_000
    assert catalog.observe("123", "1.2", dict(reversed(DCM4CHEE.items()))) == first
    assert first.tzinfo is UTC


def is_seen_now(catalog: Archive, patient: str, uid: str, row: Row) -> bool:
    """Whether the row counts as changed now: later than every ``now()`` before, by a millisecond
    and no more.
    """
    before = catalog.now()
    return catalog.observe(patient, uid, row) == before + MILLISECOND


@pytest.mark.parametrize(
    "change",
    [
        row(NumberOfStudyRelatedInstances="121"),
        row(NumberOfStudyRelatedInstances=120),
        row(StudyDescription=None),
        row(ModalitiesInStudy=["SR", "CT"]),
        {"77771020": {"vr": "DT", "Value": ["20240301"]}},
    ],
    ids=str,
)
def test_any_change_of_the_row_is_a_change(clock: Clock, change: Row) -> None:
    catalog = Archive(Catalog(clock=clock))
    catalog.observe("123", "1.2", DCM4CHEE)
    for ticks, now in ((1_000, DCM4CHEE | change), (2_000, DCM4CHEE)):
        # Back again is a change too: in between somebody may have taken the other one.
        clock.ticks = ticks
        assert is_seen_now(catalog, "123", "1.2", now)


def test_the_url_by_which_we_asked_is_no_change(clock: Clock) -> None:
    """RetrieveURL has the host that the PACS was reached by."""
    catalog = Archive(Catalog(clock=clock))
    first = catalog.observe("123", "1.2", ORTHANC_ULTRASOUND)
    clock.ticks += 1_000
    moved = ORTHANC_ULTRASOUND | row(RetrieveURL="http://other:8042/dicom-web/studies/1.2")
    assert catalog.observe("123", "1.2", moved) == first
    bare = {tag: element for tag, element in ORTHANC_ULTRASOUND.items() if tag != "00081190"}
    assert catalog.observe("123", "1.2", bare) == first


def test_patients_and_studies_are_kept_apart(clock: Clock) -> None:
    """The same UID for two patients, two studies with the same row."""
    catalog = Archive(Catalog(clock=clock))
    first = catalog.observe("123", "1.2", DCM4CHEE)
    for patient, uid in (("124", "1.2"), ("123", "1.3")):
        clock.ticks += 1_000
        assert is_seen_now(catalog, patient, uid, DCM4CHEE)
    assert catalog.observe("123", "1.2", DCM4CHEE) == first


def test_what_is_forgotten_is_new(clock: Clock) -> None:
    """Bounded memory errs towards sending too much; the patients who were looked at last stay."""
    catalog = Archive(Catalog(MemoryStore(4), clock=clock))  # Two patients of one study each.
    first = catalog.observe("1", "1.2", DCM4CHEE)
    for ticks, patient in ((1_000, "2"), (2_000, "1"), (3_000, "3")):
        clock.ticks = ticks
        catalog.observe(patient, "1.2", DCM4CHEE)
    clock.ticks = 5_000
    assert catalog.observe("1", "1.2", DCM4CHEE) == first
    assert is_seen_now(catalog, "2", "1.2", DCM4CHEE)


def test_a_list_that_is_too_long_to_be_kept_is_new_each_time(clock: Clock) -> None:
    catalog = Catalog(MemoryStore(3), clock=clock)
    rows = [row(StudyInstanceUID=f"1.2.{number}") for number in range(4)]
    first = observe(catalog, "1", rows)
    clock.ticks += 5_000
    assert min(observe(catalog, "1", rows).values()) > max(first.values())


def test_a_study_that_comes_back_is_new(clock: Clock) -> None:
    """Deleted and restored as it was: whoever synced in between has removed it."""
    catalog = Catalog(clock=clock)
    study = [row(StudyInstanceUID="1.2")]
    first = observe(catalog, "1", study)["1.2"]
    clock.ticks += 5_000
    assert observe(catalog, "1", []) == {}
    assert observe(catalog, "1", study)["1.2"] > first


def test_a_row_too_deep_to_be_compared_is_new_each_time(clock: Clock) -> None:
    """It may have changed: nothing is missed."""
    catalog = Archive(Catalog(clock=clock))
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"vr": "SQ", "Value": [deep]}
    for _ in range(3):
        clock.ticks += 5_000
        assert is_seen_now(catalog, "123", "1.2", {"00081110": deep})


@given(any_rows, any_rows)
def test_rows_differ_when_anything_differs(one: Row, other: Row) -> None:
    clock = Clock()
    catalog = Archive(Catalog(clock=clock))
    catalog.observe("123", "1.2", one)
    clock.ticks = 5_000
    stable = [
        {tag: value for tag, value in found.items() if tag not in ("00081190", "0020000D")}
        for found in (one, other)
    ]
    same = json.dumps(stable[0], sort_keys=True) == json.dumps(stable[1], sort_keys=True)
    assert is_seen_now(catalog, "123", "1.2", other) is not same


@given(st.lists(st.tuples(st.integers(-5_000, 5_000), st.booleans()), max_size=20))
def test_time_never_goes_back_and_what_is_seen_is_later_than_what_was_said(
    steps: list[tuple[int, bool]],
) -> None:
    """Whole milliseconds, so that what is shown is what is compared; clocks are set back now and
    then.
    """
    clock = Clock()
    clock.ticks = 100_000
    catalog = Archive(Catalog(clock=clock))
    said = catalog.now()
    for number, (ticks, look) in enumerate(steps):
        clock.ticks += ticks
        if look:
            seen = catalog.observe("123", f"1.{number}", DCM4CHEE)
            assert seen > said
            assert seen.microsecond % 1_000 == 0
        else:
            now = catalog.now()
            assert now >= said
            said = now
