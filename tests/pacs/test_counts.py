"""The number of instances of a study or series, whatever the archive leaves out (SIA-43)."""

from typing import Any

import pytest

from sidecar.access.facts import Part, PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.dicomweb.upstream_errors import ResourceNotOffered
from sidecar.pacs.counts import count_instances
from tests.pacs.fake import FakePacs, row

KNOWN = frozenset({PatientIdentifier("p1")})
STUDY, SERIES = "1.2", "1.2.1"
PARTS = {"study": Part(STUDY), "series": Part(STUDY, SERIES)}
LISTED = [row(None, STUDY, SERIES, f"1.2.1.{number}") for number in range(3)]


def study(patient: str | None = "p1", uid: str = STUDY, **more: Any) -> dict[str, Any]:
    """A row that may stand for the study and for the series."""
    return row(patient, uid, more.pop("series", SERIES), **more)


def counted(instances: object) -> dict[str, Any]:
    """Both attributes: of the study and of its series."""
    return {"NumberOfStudyRelatedInstances": instances, "NumberOfSeriesRelatedInstances": instances}


def archive(
    *rows: dict[str, Any], listed: list[dict[str, Any]] | None = None, filters: bool = True
) -> FakePacs:
    """With these rows at the levels of studies and series."""
    pacs = FakePacs(*rows, filters=filters)
    pacs.rows_of_level["instances"] = [*(LISTED if listed is None else listed)]
    return pacs


CASES: dict[str, tuple[list[dict[str, Any]], int | None]] = {
    "a number": ([study(**counted(7))], 7),
    "a number as text": ([study(**counted("7"))], 7),
    "two studies of the patient under one UID": ([study(**counted(7)), study(**counted(5))], 12),
    "no number: the instances are listed": ([study()], 3),
    "no number in one of two rows": ([study(**counted(7)), study()], 3),
    "no usable number": ([study(**counted("many"))], 3),
    "a negative number": ([study(**counted(-1))], 3),
    "none, of a study that there is": ([study(**counted(0))], 3),
    "no row": ([], None),
    "another patient's": ([study("p2", **counted(7))], None),
    "another patient's, too": ([study(**counted(7)), study("p2", **counted(7))], None),
    "two PatientIDs in one row": (
        [study(**counted(7)) | {"00100020": {"vr": "LO", "Value": ["p1", "p2"]}}],
        None,
    ),
    "another study, which the archive should have left out": (
        [study(uid="1.9", **counted(7))],
        None,
    ),
}


@pytest.mark.parametrize("level", PARTS)
@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("case", CASES)
async def test_counts(level: str, filters: bool, case: str) -> None:
    rows, expected = CASES[case]
    assert await count_instances(archive(*rows, filters=filters), PARTS[level], KNOWN) == expected


async def test_only_below_a_study_a_row_may_name_no_patient() -> None:
    pacs = archive(study(None, **counted(7)))
    assert await count_instances(pacs, PARTS["series"], KNOWN) == 7
    assert await count_instances(pacs, PARTS["study"], KNOWN) is None


async def test_what_is_listed_is_counted_once_and_only_where_it_belongs() -> None:
    listed = [
        *LISTED,
        LISTED[0],
        row(None, "1.9", SERIES, "1.9.1"),
        row(None, STUDY, "1.2.2", "1.2.2.1"),
        {},
    ]
    pacs = archive(study(), listed=listed, filters=False)
    assert await count_instances(pacs, PARTS["study"], KNOWN) == 4
    assert await count_instances(pacs, PARTS["series"], KNOWN) == 3


async def test_each_count_is_asked_for() -> None:
    pacs = archive(study(**counted(7)))
    for _ in range(2):
        await count_instances(pacs, PARTS["study"], KNOWN)
    assert pacs.levels == ["studies", "studies"]


class NoList(FakePacs):
    """Counts not, and answers a query for instances with ``refusal``."""

    refusal: Exception

    async def search(self, query: Any, parameters: Any, **more: Any) -> Any:
        if query.level == "instances":
            raise self.refusal
        return await super().search(query, parameters, **more)


@pytest.mark.parametrize(
    "refusal",
    [ResourceNotOffered.named("series"), BadGateway("x", reason="query_too_many_results")],
)
async def test_neither_counted_nor_listed(refusal: Exception) -> None:
    pacs = NoList(study())
    pacs.refusal = refusal
    with pytest.raises(BadGateway) as raised:
        await count_instances(pacs, PARTS["study"], KNOWN)
    assert raised.value.reason == "pacs_uncounted"


class ListsBySeries(FakePacs):
    """Counts not, and has no list of a study's instances: tiny_pacs."""

    async def search(self, query: Any, parameters: Any, **more: Any) -> Any:
        if query.level == "instances" and query.series is None:
            raise ResourceNotOffered.named("instances")
        return await super().search(query, parameters, **more)


OTHER = "1.2.2"
IN_TWO_SERIES = [*LISTED, row(None, STUDY, OTHER, "1.2.2.1"), row(None, STUDY, OTHER, "1.2.2.2")]
BY_SERIES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], int | None]] = {
    "two series": ([study(), study(series=OTHER)], IN_TWO_SERIES, 5),
    "one of them is of another study": (
        [study(), study(uid="1.9", series=OTHER)],
        IN_TWO_SERIES,
        3,
    ),
    "one series, listed twice": ([study(), study()], IN_TWO_SERIES, 3),
    "a series without instances": ([study(), study(series=OTHER)], LISTED, None),
    "a series without a UID": ([study(), study(series=None)], IN_TWO_SERIES, None),
    "no series": ([], IN_TWO_SERIES, None),
}


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("case", BY_SERIES)
async def test_a_study_whose_instances_are_listed_by_series_alone(case: str, filters: bool) -> None:
    """``None``: the count is not known. Then a part could not be told from the whole."""
    series, listed, expected = BY_SERIES[case]
    pacs = ListsBySeries(study(), filters=filters)
    pacs.rows_of_level |= {"series": [*series], "instances": [*listed]}
    if expected is None:
        with pytest.raises(BadGateway) as raised:
            await count_instances(pacs, PARTS["study"], KNOWN)
        assert raised.value.reason == "pacs_uncounted"
    else:
        assert await count_instances(pacs, PARTS["study"], KNOWN) == expected


async def test_an_empty_list_says_nothing() -> None:
    with pytest.raises(BadGateway) as raised:
        await count_instances(archive(study(), listed=[]), PARTS["study"], KNOWN)
    assert raised.value.reason == "pacs_uncounted"


async def test_an_archive_that_is_away_is_away() -> None:
    pacs = NoList(study())
    pacs.refusal = Unavailable("x", reason="pacs_unreachable")
    with pytest.raises(Unavailable):
        await count_instances(pacs, PARTS["study"], KNOWN)
