"""Constraints of SMART v2 scopes: as a search with them, and nothing when that cannot be said
(SIA-11, 16).
"""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.scopes import parse_scope
from sidecar.authorization.scope_constraints import EVALUATED, Constraints
from sidecar.authorization.study_facts import described, without_hidden
from sidecar.fhir.imaging_study import Site, modality_codes
from tests.fhir.rows import row
from tests.tables.search_forms import FORMS

SITE = Site("https://ehr.example.org/fhir")
CONSTRAINTS = Constraints(SITE)
ROW = row(
    StudyInstanceUID="1.2.3",
    StudyDate="20240229",
    StudyTime="091500",
    ModalitiesInStudy=["CT", "SR"],
    AccessionNumber="A1",
)
SERIES = [
    row(
        SeriesInstanceUID=f"1.2.3.{number}",
        Modality=modality,
        BodyPartExamined="CHEST",
        NumberOfSeriesRelatedInstances=count,
    )
    for number, (modality, count) in enumerate([("CT", 10), ("SR", 1)])
]


@pytest.mark.parametrize(
    ("constraint", "satisfied"),
    [
        ("modality=CT", True),
        ("modality=ct", True),
        ("modality=MR", False),
        ("modality=MR,SR", True),
        ("modality=CT&modality=SR", True),
        ("modality=CT&modality=MR", False),
        ("status=available", True),
        ("status=registered", False),
        ("started=2024", True),
        ("started=ge2024-02-29&started=lt2024-03-01", True),
        ("started=gt2024-03", False),
        ("identifier=A1", True),
        ("identifier=A2", False),
        ("_id=1.2.3", True),
        ("identifier=urn:dicom:uid%7Curn:oid:1.2.3", True),
        ("bodysite=CHEST", True),
        ("bodysite=HEAD", False),
        ("series=1.2.3.0", True),
        ("modality=http://dicom.nema.org/resources/ontology/DCM|CT", True),
        ("modality=http://other|CT", False),
        ("modality=CT&started=2023", False),
    ],
)
def test_what_is_evaluated(constraint: str, satisfied: bool) -> None:
    grant = parse_scope(f"patient/ImagingStudy.rs?{constraint}")
    assert grant is not None
    assert grant.constraint == constraint
    assert CONSTRAINTS.understands(constraint)
    assert (constraint in CONSTRAINTS.satisfied([constraint], ROW, SERIES)) is satisfied


@pytest.mark.parametrize(
    "constraint",
    [
        "",
        "modality",
        "modality=",
        "modality:not=SR",
        "modality:missing=false",
        "modality=CT&",
        "modality=CT&x=y",
        "x=y",
        "=CT",
        "&",
        "started=yesterday",
        "started=2024-13",
        "_lastUpdated=gt2020",
        "patient=p1",
        "subject=p1",
        "_count=5",
        "instance=1.2",
        "dicom-class=1.2",
        "endpoint=x",
        "_has:a:b:c=d",
        "performer=x",
        "Modality=CT",
        "modality=CT;x",
        # What a search would ignore, or take for a limit of its answer, would permit everything.
        "modality=,",
        "modality=CT&status=,",
        "modality=CT&_lastUpdated=gt2020",
        "modality=CT&patient=p1",
        "modality=CT&_count=5",
        "modality=%ff",
        "patient.identifier=x",
        "started:missing=true",
        "_include=*",
        "x" * 1_001,
    ],
)
def test_what_is_not_understood(constraint: str) -> None:
    if constraint == "modality=CT;x":  # One code, which no study has.
        assert not CONSTRAINTS.satisfied([constraint], ROW, SERIES)
    else:
        assert not CONSTRAINTS.understands(constraint)
    assert CONSTRAINTS.satisfied([constraint], ROW, SERIES) == frozenset()


def test_a_study_satisfies_none_of_no_constraints() -> None:
    assert CONSTRAINTS.satisfied([], ROW, SERIES) == frozenset()


@pytest.mark.parametrize("query", sorted({form.query for form in FORMS}))
def test_what_a_search_may_have_and_a_constraint_may_not(query: str) -> None:
    """What a search forgives, and what it can do more, permits nothing in a scope."""
    names = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    understood = CONSTRAINTS.understands(query)
    assert not understood if names - EVALUATED else understood


@pytest.mark.parametrize(("length", "is_understood"), [(1_000, True), (1_001, False)])
def test_how_long_a_constraint_may_be(length: int, is_understood: bool) -> None:
    constraint = "modality=CT,".ljust(length, "A")
    found = CONSTRAINTS.satisfied([constraint], ROW, SERIES)
    assert found == ({constraint} if is_understood else set())


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_constraint_is_evaluated_or_not_understood(constraint: str) -> None:
    if CONSTRAINTS.satisfied([constraint], ROW, SERIES):
        assert CONSTRAINTS.understands(constraint)


def test_a_study_is_described() -> None:
    found = described(ROW, SERIES, SITE, CONSTRAINTS, ["modality=CT", "modality=MR"])
    assert found.attributes["ModalitiesInStudy"] == ("CT", "SR")
    assert found.attributes["AccessionNumber"] == ("A1",)
    assert "StudyDescription" not in found.attributes
    assert [one.uid for one in found.series] == ["1.2.3.0", "1.2.3.1"]
    assert found.series[1].attributes["Modality"] == ("SR",)
    assert found.satisfies == {"modality=CT"}


def test_modalities_are_the_studys_own_where_it_says_them() -> None:
    own = {**ROW, **row(ModalitiesInStudy=["CT"])}
    assert described(own, SERIES, SITE, CONSTRAINTS).attributes["ModalitiesInStudy"] == ("CT",)


def test_modalities_are_gathered_from_series_where_the_study_does_not_say() -> None:
    silent = {name: value for name, value in ROW.items() if name != "00080061"}
    assert described(silent, SERIES, SITE, CONSTRAINTS).attributes["ModalitiesInStudy"] == (
        "CT",
        "SR",
    )
    assert "ModalitiesInStudy" not in described(silent, [], SITE, CONSTRAINTS).attributes


@pytest.mark.parametrize(
    ("date", "time", "moment"),
    [
        ("20240229", "091500", None),
        ("20240229", "", 1_709_251_200.0),
        ("", "091500", None),
        ("soon", "", None),
    ],
)
def test_when_it_can_have_begun_at_the_latest(date: str, time: str, moment: float | None) -> None:
    """Without a time zone, or a time, it may have been at that day's end."""
    found = described(
        {**ROW, **row(StudyDate=date, StudyTime=time)}, SERIES, SITE, CONSTRAINTS
    ).started_by
    assert found == (1_709_251_200.0 if date == "20240229" else moment)


def test_a_row_without_what_is_hidden() -> None:
    counts = row(
        NumberOfStudyRelatedSeries=2,
        NumberOfStudyRelatedInstances=11,
        SOPClassesInStudy="1.2.840.10008.5.1.4.1.1.88.22",
    )
    whole = {**ROW, **counts}
    left = without_hidden(whole, SERIES[:1])
    assert modality_codes(left) == ["CT"]
    assert left["00201206"]["Value"] == [1]
    assert left["00201208"]["Value"] == [10]
    assert "00080062" not in left
    assert left["00080050"] == ROW["00080050"]
    uncounted = without_hidden(whole, [{"0020000E": SERIES[0]["0020000E"]}])
    assert "00201208" not in uncounted
    assert "00080061" not in uncounted
