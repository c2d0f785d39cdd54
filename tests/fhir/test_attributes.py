"""Single attributes -> FHIR elements: the table of real and of odd rows (R4
imagingstudy-mappings.html; PS3.3 8.8).
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dicom.json_model import with_tags
from sidecar.fhir.attributes import based_on, concepts, laterality, performers, reasons, title
from sidecar.fhir.imaging_study import SeriesRows
from sidecar.fhir.r5 import to_r5
from tests.fhir.imaging_studies import build, study
from tests.fhir.rows import DCM4CHEE, json_values, row

SCT = "http://snomed.info/sct"
DCM = "http://dicom.nema.org/resources/ontology/DCM"


def code(
    value: str | None, scheme: str | None, meaning: str | None = None, **more: object
) -> dict[str, Any]:
    return row(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning, **more)


CONCEPTS = [
    (
        code("241526005", "SCT", "CT of chest"),
        {
            "coding": [{"system": SCT, "code": "241526005", "display": "CT of chest"}],
            "text": "CT of chest",
        },
    ),
    (code("24627-2", "LN"), {"coding": [{"system": "http://loinc.org", "code": "24627-2"}]}),
    (
        code("113014", "DCM", "A"),
        {"coding": [{"system": DCM, "code": "113014", "display": "A"}], "text": "A"},
    ),
    (
        code("P5-09051", "SRT", "Chest"),
        {"coding": [{"code": "P5-09051", "display": "Chest"}], "text": "Chest"},
    ),
    (code("241526005", "SRT"), {"coding": [{"system": SCT, "code": "241526005"}]}),
    (
        code("CTTHX", "99H", "CT Thorax"),
        {"coding": [{"code": "CTTHX", "display": "CT Thorax"}], "text": "CT Thorax"},
    ),
    (
        code("X", "99H", CodingSchemeUID="1.2.3"),
        {"coding": [{"system": "urn:oid:1.2.3", "code": "X"}]},
    ),
    (code("X", "99H", CodingSchemeUID="1.02.3"), {"coding": [{"code": "X"}]}),
    (
        code("X", "DCM", CodingSchemeVersion="01"),
        {"coding": [{"system": DCM, "version": "01", "code": "X"}]},
    ),
    (code(None, "DCM", "Words alone"), {"text": "Words alone"}),
    (code("with  two spaces", "DCM", "Odd"), {"text": "Odd"}),
    (code(None, None), None),
    (row(), None),
    (code("\x1b", None, "\x00"), None),
]


@pytest.mark.parametrize(("item", "expected"), CONCEPTS, ids=str)
def test_a_code_sequence(item: dict[str, Any], expected: dict[str, Any] | None) -> None:
    found = concepts(row(ProcedureCodeSequence=[item]), "ProcedureCodeSequence")
    assert found == (None if expected is None else [expected])
    build(study(ProcedureCodeSequence=[item]))


def test_why_it_was_done() -> None:
    """Codes before words, the study's own before its requests'."""
    coded = {"ReasonForRequestedProcedureCodeSequence": [code("X", "99H", "Cough")]}
    assert reasons(row(**coded)) == [
        {"coding": [{"code": "X", "display": "Cough"}], "text": "Cough"}
    ]
    assert reasons(row(ReasonForTheRequestedProcedure=" Cough ")) == [{"text": "Cough"}]
    request = row(ReasonForTheRequestedProcedure="Fall")
    assert reasons(row(RequestAttributesSequence=[request])) == [{"text": "Fall"}]
    assert reasons(row(AdmittingDiagnosesCodeSequence=[code(None, None, "Fracture")])) == [
        {"text": "Fracture"}
    ]
    assert reasons(row()) is None


def test_the_order() -> None:
    (order,) = based_on(row(PlacerOrderNumberImagingServiceRequest="O-1")) or []
    assert order["identifier"]["value"] == "O-1"
    assert order["identifier"]["type"]["coding"][0]["code"] == "PLAC"
    assert based_on(row(PlacerOrderNumberImagingServiceRequest=" ")) is None


@pytest.mark.parametrize(
    ("value", "display"),
    [("R", "Right"), ("l", "Left"), ("B", "Right and left"), ("U", None), ("", None)],
)
def test_laterality(value: str, display: str | None) -> None:
    assert (laterality(row(Laterality=value)) or {}).get("display") == display


def test_who_performed_the_series() -> None:
    found = performers(
        row(PerformingPhysicianName=[{"Alphabetic": "Doe^Jane"}], OperatorsName="Roe^Rob")
    )
    assert [one["actor"]["display"] for one in found or []] == ["Jane Doe", "Rob Roe"]
    assert performers(row()) is None


def test_what_an_instance_calls_itself() -> None:
    assert title(row(ContentLabel="KEY_IMAGES", DocumentTitle="x")) == "KEY_IMAGES"
    assert title(row(DocumentTitle="Discharge letter")) == "Discharge letter"
    assert (
        title(row(ConceptNameCodeSequence=[code("126000", "DCM", "Imaging Report")]))
        == "Imaging Report"
    )
    assert title(row()) is None


@pytest.mark.parametrize(
    ("availability", "noted"),
    [("ONLINE", False), ("NEARLINE", True), ("OFFLINE", True), (None, False)],
)
def test_what_is_on_slow_storage_says_so(availability: str | None, noted: bool) -> None:
    """It is available all the same; a retrieval may be a 503 first (SIA-44)."""
    found = build(study(InstanceAvailability=availability))
    assert (found["status"], "note" in found) == ("available", noted)


def test_everything_at_once_is_valid_in_both_versions() -> None:
    whole = build(
        DCM4CHEE
        | row(
            NameOfPhysiciansReadingStudy="Read^Er",
            ProcedureCodeSequence=[code("241526005", "SCT", "CT of chest")],
            ReasonForTheRequestedProcedure="Cough",
            PlacerOrderNumberImagingServiceRequest="O-1",
            InstanceAvailability="NEARLINE",
        ),
        [
            SeriesRows(
                row(
                    SeriesInstanceUID="1.2.1",
                    Modality="CT",
                    Laterality="R",
                    BodyPartExamined="CHEST",
                    OperatorsName="R",
                ),
                [
                    row(
                        SOPInstanceUID="1.2.1.1",
                        SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
                        DocumentTitle="x",
                    )
                ],
            )
        ],
    )
    assert {"basedOn", "interpreter", "procedureCode", "reasonCode", "note", "series"} <= set(whole)
    from fhir.resources.imagingstudy import ImagingStudy  # noqa: PLC0415 - R5 is its default

    newer = to_r5(whole)
    ImagingStudy.model_validate(newer)
    assert newer["procedure"][0]["concept"]["text"] == "CT of chest"
    assert newer["series"][0]["laterality"]["coding"][0]["display"] == "Right"
    assert newer["series"][0]["bodySite"] == {"concept": {"text": "CHEST"}}


@given(
    st.sampled_from(["ProcedureCodeSequence", "AdmittingDiagnosesCodeSequence"]),
    st.lists(json_values, max_size=3),
)
def test_any_sequence_is_left_out_or_valid(keyword: str, values: list[Any]) -> None:
    build(study(**{keyword: values}))


def test_names_of_attributes_in_any_spelling() -> None:
    """Lower case and keywords: the same row; two names for one attribute: nobody's."""
    assert with_tags({"0020000d": 1, "PatientID": 2, "00100021": 3, "x": 4}) == {
        "0020000D": 1,
        "00100020": 2,
        "00100021": 3,
        "x": 4,
    }
    same = {"0020000D": 1}
    assert with_tags(same) is same
    for twice in ({"PatientID": 1, "00100020": 2}, {"0020000d": 1, "0020000D": 1}):
        with pytest.raises(ValueError, match="twice"):
            with_tags(twice)
