"""What rules and constraints see of rows whose texts may have lost characters (SIA-16)."""

from typing import Any

import pytest

from sidecar.access.facts import DescribedSeries, Effect
from sidecar.access.visibility import Visible, visible_by_rules
from sidecar.authorization.scope_constraints import Constraints
from sidecar.authorization.study_facts import described, without_hidden
from tests.fakes.site import SITE
from tests.fhir.rows import row
from tests.permits import make_rule

CONSTRAINTS = Constraints(SITE)
EXCLUDE = make_rule("psychiatry", Effect.EXCLUDE, study={"StudyDescription": ("*Психиатрия*",)})
SHOW = make_rule("thorax", Effect.SHOW, study={"StudyDescription": ("CT*",)})
EXCLUDE_ALL = make_rule("the rest", Effect.EXCLUDE)
EXCLUDE_SERIES = make_rule("series", Effect.EXCLUDE, series={"SeriesDescription": ("*geheim*",)})


def study(**attributes: Any) -> dict[str, Any]:
    return row(**{"StudyInstanceUID": "1.2", "StudyDate": "20240229"} | attributes)


ROWS: list[tuple[dict[str, Any], bool, bool]] = [
    ({"StudyDescription": "CT Thorax"}, True, True),
    ({"StudyDescription": "CT Thorax", "SpecificCharacterSet": "ISO_IR 100"}, True, True),
    ({"StudyDescription": "CT Психиатрия", "SpecificCharacterSet": "ISO_IR 192"}, False, True),
    ({"StudyDescription": "CT \ufffd\ufffd"}, False, False),
    ({"StudyDescription": "CT Ð\x9fÑ\x81"}, False, False),
    ({"StudyDescription": "CT \x1b-L"}, False, False),
    ({"StudyDescription": "CT", "SpecificCharacterSet": "ISO_IR 999"}, False, False),
]


@pytest.mark.parametrize(("said", "not_excluded", "shown_by_rule"), ROWS)
def test_unknown_never_permits(
    said: dict[str, Any], not_excluded: bool, shown_by_rule: bool
) -> None:
    """A rule that excludes applies to a text that is not known, a rule that shows does not."""
    one = described(study(**said), [], SITE, CONSTRAINTS)
    assert isinstance(visible_by_rules((EXCLUDE,), one, 0), Visible) is not_excluded
    assert isinstance(visible_by_rules((SHOW, EXCLUDE_ALL), one, 0), Visible) is shown_by_rule


@pytest.mark.parametrize(
    ("said", "left"), [("Axial", True), ("geheim", False), ("Axial \ufffd", False)]
)
def test_series_too(said: str, left: bool) -> None:
    one = described(
        study(), [row(SeriesInstanceUID="1.3", SeriesDescription=said)], SITE, CONSTRAINTS
    )
    assert isinstance(visible_by_rules((EXCLUDE_SERIES,), one, 0), Visible) is left


@pytest.mark.parametrize(("number", "met"), [("A7", True), ("A7\ufffd", False)])
def test_a_constraint_is_not_met_by_a_text_that_is_not_known(number: str, met: bool) -> None:
    constraint = f"identifier={number}"
    assert CONSTRAINTS.understands(constraint)
    one = described(study(AccessionNumber=number), [], SITE, CONSTRAINTS, [constraint])
    assert one.satisfies == (frozenset({constraint}) if met else frozenset())


def test_a_study_is_described_by_what_rules_may_name() -> None:
    """Values that stand in one text are taken apart. What has none is left out."""
    one = described(
        study(StudyDescription=["CT \\ Head\\", " "], InstitutionName=" ", PatientComments="x"),
        [row(SeriesDescription="Axial", Modality="CT", StationName="\\", SeriesTime="0915")],
        SITE,
        CONSTRAINTS,
    )
    assert one.attributes == {
        "StudyDate": ("20240229",),
        "StudyDescription": ("CT", "Head"),
        "ModalitiesInStudy": ("CT",),
    }
    attributes = {"SeriesDescription": ("Axial",), "Modality": ("CT",)}
    assert one.series == (DescribedSeries("", attributes),)


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("5", {"SeriesNumber": ("5",)}),
        ("+5", {"SeriesNumber": ("5",)}),
        ("05", {"SeriesNumber": ("5",)}),
        (5.0, {"SeriesNumber": ("5",)}),
        (0, {"SeriesNumber": ("0",)}),
        ("five", {}),
        (None, {}),
    ],
)
def test_a_number_has_one_name(written: object, named: dict[str, tuple[str, ...]]) -> None:
    """PS3.5 6.2, IS: else a rule that excludes one would not apply to the other."""
    one = described(study(), [row(SeriesNumber=written)], SITE, CONSTRAINTS)
    assert one.series[0].attributes == named


@pytest.mark.parametrize(
    ("counts", "instances"), [((3, "4"), [7]), ((0, 3), [3]), ((3, None), None), ((), [0])]
)
def test_sums_of_what_is_shown(counts: tuple[object, ...], instances: list[int] | None) -> None:
    """A sum of series of which one is not counted is not known."""
    series = [row(Modality="CT", NumberOfSeriesRelatedInstances=count) for count in counts]
    whole = study(
        ModalitiesInStudy=["CT", "SR"],
        SOPClassesInStudy=["1.2.840"],
        NumberOfStudyRelatedSeries=9,
        NumberOfStudyRelatedInstances=9,
    )
    left: dict[str, Any] = {"NumberOfStudyRelatedSeries": len(counts)}
    if counts:
        left["ModalitiesInStudy"] = "CT"
    if instances is not None:
        left["NumberOfStudyRelatedInstances"] = instances
    assert without_hidden(whole, series) == study(**left)
