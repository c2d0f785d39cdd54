"""Queries and details of a limited permit match and return what is shown alone (SIA-20, 43)."""

from datetime import timedelta

import pytest

from sidecar.authorization.row_filter import shown_rows
from sidecar.common.invalidation import Invalidation
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import parse_matching
from sidecar.fhir.imaging_study import study_uid
from sidecar.pacs.listing import Listing
from tests.authorization.listed_archive import (
    ASKED,
    NO_SR,
    ROWS,
    SEARCH,
    SERIES,
    Archive,
    permit,
    views,
)
from tests.fhir.rows import row


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ([], ["1.2", "1.3"]),
        ([("ModalitiesInStudy", "SR")], ["1.3"]),  # What the archive says of 1.3 is its own matter.
        ([("ModalitiesInStudy", "CT")], ["1.2", "1.3"]),
        ([("ModalitiesInStudy", "S?")], ["1.3"]),
        ([("ModalitiesInStudy", "SR\\CT")], ["1.2", "1.3"]),
        ([("StudyDate", "20240229"), ("PatientName", "x")], ["1.2", "1.3"]),
        ([("SeriesInstanceUID", "1.2.2")], ["1.3"]),
        ([("Modality", "SR")], ["1.3"]),
        ([("SOPClassesInStudy", "1.2")], ["1.3"]),
        ([("includefield", "all")], ["1.2", "1.3"]),
    ],
)
async def test_studies_are_not_found_by_what_is_hidden(
    parameters: list[tuple[str, str]], expected: list[str]
) -> None:
    """Whatever the archive matched: its rows are looked at again."""
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    rows = list(filter(None, shown_rows(ROWS, Query("studies"), parse_matching(parameters), view)))
    assert [study_uid(row) for row in rows] == expected
    for shown in rows:
        assert "SR" not in shown["00080061"]["Value"]
        assert study_uid(shown) != "1.2" or shown["00201206"]["Value"] == [1]


async def test_rows_below_studies() -> None:
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    for level in ("series", "instances"):
        rows = [
            row(StudyInstanceUID=study, SeriesInstanceUID=series)
            for study, series in [
                ("1.2", "1.2.1"),
                ("1.2", "1.2.2"),
                ("1.2", None),
                ("1.4", "1.4.1"),
                ("1.3", "1.3.1"),
            ]
        ]
        shown = list(filter(None, shown_rows(rows, Query(level), parse_matching([]), view)))
        assert [row["0020000E"]["Value"] for row in shown] == [["1.2.1"], ["1.3.1"]]


async def test_a_constraint_limits_what_is_shown() -> None:
    view = await views(Archive(ROWS, SERIES)).of(permit(constraint="modality=SR"), SEARCH)
    assert [study_uid(row) for row in view.rows] == ["1.2", "1.4"]
    assert view.rows[0] is ROWS[0]  # Nothing in it is hidden.
    assert view.row(ROWS[0]) is ROWS[0]


async def test_a_constraint_cannot_ask_for_what_is_hidden() -> None:
    """By modality or by UID: as if it were not there."""
    for constraint, expected in (
        ("modality=SR", []),
        ("series=1.2.2", []),
        ("series=1.2.1", ["1.2"]),
        ("modality=CT", None),
    ):
        view = await views(Archive(ROWS, SERIES), rules=(NO_SR,)).of(
            permit(NO_SR, constraint=constraint), SEARCH
        )
        assert [study_uid(row) for row in view.rows] == (
            ["1.2", "1.3"] if expected is None else expected
        ), constraint


async def test_a_constraint_holds_by_the_studys_own_row_where_nothing_is_hidden() -> None:
    archive = Archive(ROWS[:1], {"1.2": SERIES["1.2"][:1]})
    limited = permit(NO_SR, constraint="modality=SR")
    view = await views(archive, rules=(NO_SR,)).of(limited, SEARCH)
    assert [study_uid(row) for row in view.rows] == ["1.2"]


async def test_what_an_archive_fills_in_from_some_series_is_left_out() -> None:
    """Orthanc answers any attribute at any level, from an image of its choice."""
    from_series = row(
        SeriesInstanceUID="1.2.2",
        SOPInstanceUID="1.2.2.1",
        SeriesDescription="secret",
        Modality="SR",
        NumberOfPatientRelatedStudies=3,
        StudyDescription="Head",
    )
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    (shown, *_) = list(
        filter(
            None,
            shown_rows([{**ROWS[0], **from_series}], Query("studies"), parse_matching([]), view),
        )
    )
    assert "SR" not in str(shown)
    assert "secret" not in str(shown)
    assert "1.2.2" not in str(shown)
    assert shown["00081030"]["Value"] == ["Head"]
    assert "00201200" not in shown


@pytest.mark.parametrize("level", ["series", "instances"])
async def test_sums_below_a_study_tell_nothing(level: str) -> None:
    own = {**row(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1"), **ROWS[0]}
    other = row(StudyInstanceUID="1.3", SeriesInstanceUID="1.3.1", ModalitiesInStudy=["CT"])
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    shown = list(filter(None, shown_rows([own, other], Query(level), parse_matching([]), view)))
    assert ["00080061" in row for row in shown] == [False, True]
    for name in ("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "SOPClassesInStudy"):
        shown = list(
            filter(
                None, shown_rows([own, other], Query(level), parse_matching([(name, "2")]), view)
            )
        )
        assert [row["0020000D"]["Value"] for row in shown] == [["1.3"]]


@pytest.mark.parametrize("name", ["NumberOfPatientRelatedStudies", "00201204"])
async def test_nobody_matches_by_how_much_a_patient_has(name: str) -> None:
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    for level in ("studies", "series"):
        assert (
            list(filter(None, shown_rows(ROWS, Query(level), parse_matching([(name, "3")]), view)))
            == []
        )


async def test_details_of_a_limited_permit_are_asked_for_in_what_is_shown() -> None:
    archive = Archive(ROWS, SERIES)
    view = await views(archive).of(permit(NO_SR), SEARCH)
    archive.details.clear()
    assert await view.instances("1.2", "1.2.1") == [row(SOPInstanceUID="1.2.1.1")]
    assert await view.instances("1.2", "1.2.2") == []
    assert await view.holding("SOPClassUID", "1.2.840", ["1.2", "1.3"]) == {"1.2", "1.3"}
    assert archive.details == [
        ("instances", "1.2", "1.2.1"),
        (
            "holding",
            "SOPClassUID",
            "1.2.840",
            {"1.2": frozenset({"1.2.1"}), "1.3": frozenset({"1.3.1"})},
        ),
    ]
    whole = await views(archive).of(permit(constraint="modality=CT"), SEARCH)
    await whole.holding("SOPClassUID", "1.2.840", ["1.2"])
    assert archive.details[-1] == ("holding", "SOPClassUID", "1.2.840", {})


async def test_a_list_is_described_once_for_each_listing() -> None:
    """The answer is as old as the oldest of what the description rests on."""
    invalidation = Invalidation()
    archive = Archive(ROWS, SERIES)
    archive.series_asked = ASKED - timedelta(seconds=5)
    lookup = views(archive, invalidation=invalidation)

    async def described() -> bool:
        before = len(archive.details)
        view = await lookup.of(permit(NO_SR), SEARCH)
        assert view.oldest.moment == archive.series_asked
        return len(archive.details) > before

    assert await described()
    assert not await described()
    # By another constraint, studies are compared anew.
    await lookup.of(permit(NO_SR, constraint="modality=CT"), SEARCH)
    assert len(archive.details) == 2
    archive.listing = Listing(ROWS[:1], ASKED)
    assert await described()
    invalidation.archive_changed({"p2"})
    assert not await described()
    invalidation.archive_changed({"p1"})
    assert await described()
