"""What rules and constraints see of rows whose texts may have lost characters (SIA-16)."""

from typing import Any

import pytest

from sidecar.access.facts import Effect
from sidecar.access.visibility import Visible, visible_by_rules
from sidecar.authorization.scope_constraints import Constraints
from sidecar.authorization.study_facts import described
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
