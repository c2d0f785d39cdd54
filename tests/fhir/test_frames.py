"""How many frames an instance has: our extension, and its definition (SIA-30)."""

import pytest
from fhir.resources.R4B.structuredefinition import StructureDefinition

from sidecar.fhir.frames import structure_definition
from sidecar.fhir.imaging_study import SeriesRows, Site, imaging_study
from tests.fhir.rows import row

BASE = "https://imaging.example.org/fhir"
URL = BASE + "/StructureDefinition/number-of-frames"


def test_the_definition_is_valid_and_at_its_url() -> None:
    definition = structure_definition(BASE, "2024-02-29")
    StructureDefinition.model_validate(definition)
    assert definition["url"] == URL
    assert f"{BASE}/{definition['resourceType']}/{definition['id']}" == URL


@pytest.mark.parametrize(
    ("frames", "shown"), [(1, 1), ("30", 30), (0, None), (None, None), ("1A", None)]
)
def test_frames(frames: object, shown: int | None) -> None:
    series = row(SeriesInstanceUID="1.2.1", Modality="US")
    instance = row(
        SOPInstanceUID="1.2.1.1", SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1", NumberOfFrames=frames
    )
    study = imaging_study(
        row(StudyInstanceUID="1.2"),
        patient="p",
        endpoint={"reference": "Endpoint/p"},
        site=Site("https://ehr.example.org/fhir", fhir_base=BASE),
        last_updated="2024-01-01T00:00:00Z",
        series=[SeriesRows(series, [instance])],
    )
    (element,) = study["series"][0]["instance"]
    assert element.get("extension") == (
        None if shown is None else [{"url": URL, "valueInteger": shown}]
    )
