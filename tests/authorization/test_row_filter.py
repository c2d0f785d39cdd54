"""Rows of a partly hidden study: what they match by, and what they may say (SIA-43, 45)."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from sidecar.access.wildcards import LONGEST_PATTERN, LONGEST_VALUE
from sidecar.authorization.row_filter import shown_rows
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.dicom.json_model import Row, texts
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import parse_matching
from sidecar.pacs.listing import Listing
from sidecar.pacs.studies import AsOf, Studies
from tests.fhir.rows import row
from tests.permits import make_visible, search_permit

ASKED = datetime(2024, 1, 1, tzinfo=UTC)
OF_A_STUDY = {
    "StudyDate": "20240229",
    "StudyTime": "0915",
    "AccessionNumber": "A1",
    "ModalitiesInStudy": "CT",
    "ReferringPhysicianName": "Doe",
    "StudyDescription": "Head",
    "StudyInstanceUID": "1.2",
    "StudyID": "7",
    "PatientName": "Doe",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "InstanceAvailability": "ONLINE",
}
"""What a study is found by that does not depend on its series."""


def a_view(*modalities: str) -> VisibleStudies:
    """Show all of 1.3, and of 1.2 one series of each of these modalities; 1.4 is hidden."""
    left = [row(SeriesInstanceUID=f"1.2.{one}", Modality=one) for one in modalities]
    series = frozenset(f"1.2.{one}" for one in modalities)
    visible = {
        "1.2": make_visible(series, is_complete=False),
        "1.3": make_visible(frozenset({"1.3.1"})),
    }
    return VisibleStudies(
        cast("Studies", None),
        search_permit("p1"),
        Listing([], ASKED),
        AsOf(ASKED),
        (),
        {"1.2": left},
        visible,
    )


def found(
    level: str, rows: Iterable[Row], *parameters: tuple[str, str], modalities: tuple[str, ...]
) -> list[Row | None]:
    return list(
        shown_rows(rows, Query(level), parse_matching(list(parameters)), a_view(*modalities))
    )


def study(uid: str | None, **attributes: Any) -> Row:
    return row(**{"StudyInstanceUID": uid} | attributes)


@pytest.mark.parametrize("level", ["studies", "series"])
def test_each_row_has_its_place(level: str) -> None:
    """Also what is left out: so the answers of many rows are made in slices."""
    rows = [
        study(uid, SeriesInstanceUID=series)
        for uid, series in (
            ("1.4", "1.4.1"),
            ("1.2", "1.2.CT"),
            (None, "1.2.CT"),
            ("1.3", "1.3.1"),
            ("1.4", "1.4.1"),
            ("1.2", "1.2.CT"),
        )
    ]
    shown = found(level, rows, modalities=("CT",))
    assert [one is not None for one in shown] == [False, True, False, True, False, True]
    by_hidden = {"studies": "SeriesDescription", "series": "ModalitiesInStudy"}[level]
    shown = found(level, rows, (by_hidden, "x"), modalities=("CT",))
    assert [one is not None for one in shown] == [False, False, False, True, False, False]


def test_what_a_patient_has_is_in_no_row() -> None:
    counts: dict[str, Any] = {
        "NumberOfPatientRelatedStudies": 3,
        "NumberOfPatientRelatedSeries": 4,
        "NumberOfPatientRelatedInstances": 5,
    }
    for uid in ("1.2", "1.3"):
        own = study(uid, SeriesInstanceUID=f"{uid}.1")
        assert found("series", [{**own, **row(**counts)}], modalities=("1",)) == [own]


def test_a_row_without_its_series_is_not_shown() -> None:
    """Below a study, which one it is of would not be known."""
    assert found("series", [study("1.2"), study("1.3")], modalities=("CT",)) == [None, None]


@pytest.mark.parametrize("name", ["NumberOfPatientRelatedStudies", "00081111.00201200"])
def test_nothing_is_found_by_sums_of_a_patient(name: str) -> None:
    assert found("studies", [study("1.3")], (name, "1"), modalities=()) == []
    asked_for = found("studies", [study("1.3")], ("includefield", "00201200"), modalities=())
    assert asked_for == [study("1.3")]


def test_all_that_does_not_depend_on_series_may_be_matched_by() -> None:
    parameters = list(OF_A_STUDY.items())
    (shown,) = found("studies", [study("1.2")], *parameters, modalities=("CT",))
    assert shown is not None
    more = [*parameters, ("SeriesDescription", "x")]
    assert found("studies", [study("1.2")], *more, modalities=("CT",)) == [None]


PATTERN = "C*" + "*" * (LONGEST_PATTERN - 2)


@pytest.mark.parametrize(
    ("wanted", "modalities", "is_found"),
    [
        ("CT", ("CT", "MR"), True),
        ("ct", ("MR", "CT"), True),
        ("MR,CT", ("CT",), True),
        ("MR\\CT", ("CT",), True),
        ("MR,CT\\US", ("CT",), True),
        ("CT,", ("MR",), False),
        ("", ("CT",), True),  # Universal matching (PS3.4 C.2.2.2.3).
        (",", ("CT",), True),
        ("S?", ("CT", "MR"), False),
        (PATTERN, ("CT",), True),
        (PATTERN + "*", ("CT",), False),
        ("*", ("C" * LONGEST_VALUE,), True),
        ("*", ("C" * (LONGEST_VALUE + 1),), False),
        ("*", (), False),
    ],
)
def test_by_which_modalities_a_partly_hidden_study_is_found(
    wanted: str, modalities: tuple[str, ...], is_found: bool
) -> None:
    rows = [study("1.2", ModalitiesInStudy=["SR"])]
    (shown,) = found("studies", rows, ("ModalitiesInStudy", wanted), modalities=modalities)
    assert (shown is not None) is is_found
    if shown is not None:
        assert texts(shown, "ModalitiesInStudy") == list(modalities)
