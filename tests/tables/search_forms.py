"""FHIR searches, and what each form of them answers: the specification of decision 0054.

The archive has four studies, three of the token's patient. The fourth is another patient's and has
what the others have: no form finds it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.fakes.ehr import PATIENT
from tests.fhir.rows import Row, row

A, B, C, FOREIGN = "1.2.1", "1.2.2", "1.2.3", "1.2.9"
ACCESSION_SYSTEM = "urn:example:accession"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SCT = "http://snomed.info/sct"
ALL = (A, B, C)


def _coded(value: str, meaning: str) -> Row:
    return row(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


_WHOLE: dict[str, object] = {
    "StudyDate": "20240229",
    "StudyTime": "091500",
    "ModalitiesInStudy": ["CT"],
    "AccessionNumber": "A1",
    "ReferringPhysicianName": {"Alphabetic": "Müller^Änne^^Dr."},
    "NameOfPhysiciansReadingStudy": {"Alphabetic": "Reader^Rita"},
    "ReasonForRequestedProcedureCodeSequence": [_coded("267036007", "Shortness of breath")],
    "PlacerOrderNumberImagingServiceRequest": "ORDER-1",
}
_SERIES: dict[str, object] = {
    "Modality": "CT",
    "BodyPartExamined": "CHEST",
    "PerformingPhysicianName": {"Alphabetic": "Doe^Jane"},
}


def _study(
    patient: str, uid: str, study: Mapping[str, object], series: Mapping[str, object]
) -> list[Row]:
    below = {"PatientID": patient, "StudyInstanceUID": uid}
    lower = {**below, "SeriesInstanceUID": uid + ".1"}
    instance = {"SOPInstanceUID": uid + ".1.1", "SOPClassUID": CT_IMAGE}
    return [row(**below, **study), row(**lower, **series), row(**lower, **instance)]


ROWS = [
    *_study(PATIENT, A, _WHOLE, _SERIES),
    *_study(
        PATIENT,
        B,
        {"StudyDate": "20230101", "ModalitiesInStudy": ["MR"], "AccessionNumber": "B1"}
        | {"ReasonForTheRequestedProcedure": "Fall"},
        {"Modality": "MR"},
    ),
    *_study(PATIENT, C, {"ModalitiesInStudy": ["US"]}, {"Modality": "US"}),
    *_study("p2", FOREIGN, _WHOLE, _SERIES),
]


@dataclass(frozen=True, slots=True)
class Form:
    """A query string, and its answer.

    - ``found``: StudyInstanceUIDs in their order, ``None`` for a 400
    - ``ignored``: names in the outcome entry; with any, ``handling=strict`` is a 400
    """

    query: str
    found: tuple[str, ...] | None
    ignored: tuple[str, ...] = ()


def _each(queries: str, found: tuple[str, ...] | None) -> Iterator[Form]:
    for query in queries.split():
        yield Form(query, found)


FORGIVEN = (
    # What is returned beside the studies, and in which order.
    Form("_include=ImagingStudy:patient", ALL, ("_include",)),
    Form("_include=ImagingStudy:endpoint&_include=ImagingStudy:patient", ALL, ("_include",)),
    Form("_include:iterate=Patient:organization", ALL, ("_include:iterate",)),
    Form("_include:x=ImagingStudy:endpoint", ALL, ("_include:x",)),
    Form("_revinclude=DiagnosticReport:imaging-study", ALL, ("_revinclude",)),
    Form("_revinclude:iterate=Provenance:target", ALL, ("_revinclude:iterate",)),
    Form("_revinclude=*", ALL, ("_revinclude",)),
    Form("_sort=patient", ALL, ("_sort",)),
    Form("_sort=-patient,started", ALL, ("_sort",)),
    Form("_sort=started,started", ALL, ("_sort",)),
    Form("_sort:desc=started", ALL, ("_sort:desc",)),
    Form("_count:max=1", ALL, ("_count:max",)),
    Form("_contained=true&_containedType=container", ALL, ("_contained", "_containedType")),
    Form("_score=1&_maxresults=1", ALL, ("_score", "_maxresults")),
    # Filters that are about other resources, or about words that a code has elsewhere.
    Form("_has:DiagnosticReport:imaging-study:status=final", ALL, ("_has",)),
    Form("_has=", ALL, ("_has",)),
    Form("modality:text=computed", ALL, ("modality:text",)),
    Form("modality=CT&modality:text=computed", (A,), ("modality:text",)),
    Form("identifier:text=accession", ALL, ("identifier:text",)),
    Form("modality=CT&_has:Observation:subject:code=1", (A,), ("_has",)),
    # Filters without a value, and names that R4 does not have.
    Form("encounter=&_list=&reason=", ALL, ("encounter", "_list", "reason")),
    Form("colour=blue&_type=Patient", ALL, ("colour", "_type")),
)
"""What is ignored, unless ``Prefer: handling=strict``."""

FILTERS = (
    *_each(
        f"_id:not={A} identifier:not=A1 identifier:not=urn:oid:{A} instance:not={A}.1.1", (B, C)
    ),
    *_each(f"series:not={A}.1 modality:not=CT bodysite:not=chest reason:not=267036007", (B, C)),
    *_each(f"identifier:not=urn:dicom:uid| dicom-class:not={CT_IMAGE} status:not=available", ()),
    *_each(f"instance:not={FOREIGN}.1.1 series:not={FOREIGN}.1 identifier:not={FOREIGN}", ALL),
    *_each("identifier=urn:dicom:uid| identifier:not=urn:example:x|", ALL),
    *_each(f"identifier={ACCESSION_SYSTEM}| identifier={ACCESSION_SYSTEM}|A1,B1", (A, B)),
    *_each("identifier=urn:example:x| identifier=| identifier=|A1", ()),
    *_each("basedon:identifier=ORDER-1 basedon:identifier=|ORDER-1 basedon:identifier=A1", (A,)),
    *_each(f"basedon:identifier={ACCESSION_SYSTEM}|A1 basedon:missing=false", (A,)),
    *_each(f"basedon:identifier={ACCESSION_SYSTEM}|", (A, B)),
    *_each(f"basedon:identifier=|A1 basedon:identifier={ACCESSION_SYSTEM}|ORDER-1", ()),
    *_each("basedon:identifier=x|y|z basedon:identifier=|", ()),
    *_each(f"reason=267036007 reason={SCT}|267036007 reason={SCT}| reason:text=short", (A,)),
    *_each("reason:text=fall reason:text=FALL,x", (B,)),
    *_each("reason:text=breath bodysite:text=hest referrer.name=uller reason=Fall", ()),
    *_each("bodysite:text=che bodysite:text=CHEST bodysite:text=x,che", (A,)),
    *_each("referrer.name=müller referrer:Practitioner.name=Muller referrer.name=Dr", (A,)),
    *_each("interpreter.name=rita performer.name=doe performer:PractitionerRole.name=Jane", (A,)),
    *_each("referrer.name=%CC%81 performer.name=%20 bodysite:text=%CC%81", ()),
    *_each("referrer:missing=true interpreter:missing=true performer:missing=true", (B, C)),
    *_each("bodysite:missing=true basedon:missing=true", (B, C)),
    *_each("reason:missing=true started:missing=true", (C,)),
    *_each("referrer:missing=false performer:missing=false bodysite:missing=false", (A,)),
    *_each(
        "_id:missing=true _lastUpdated:missing=true identifier:missing=true patient:missing=true "
        "subject:missing=true modality:missing=true status:missing=true series:missing=true "
        "instance:missing=true dicom-class:missing=true endpoint:missing=true",
        (),
    ),
    *_each(
        "patient:missing=false subject:missing=false instance:missing=false encounter:missing=true "
        "_tag:missing=true endpoint:missing=false endpoint:Endpoint=p1",
        ALL,
    ),
    *_each("encounter:missing=false _profile:missing=false _security:missing=false", ()),
    *_each(
        "body-site=chest body-site:text=che based-on:identifier=A1 based-on:missing=false", (A,)
    ),
    *_each("_include:iterate=ImagingStudy:endpoint _include=ImagingStudy:*", ALL),
    *_each("_sort=_id _sort=_id,started", (A, B, C)),
    *_each("_sort=-_id", (C, B, A)),
    *_each("_sort=started,-_id,_lastUpdated", (C, B, A)),
)
"""What is understood."""

REFUSED = tuple(
    _each(
        # Filters of R4 that cannot be evaluated here, and would widen the answer.
        "basedon=ServiceRequest/1 based-on=1 encounter=Encounter/1 encounter=1 referrer=1 "
        "referrer=Practitioner/1 performer=Practitioner/1 interpreter=Practitioner/1 "
        "referrer:identifier=1 performer:identifier=1 interpreter:identifier=1 "
        "encounter:identifier=1 _tag=x _profile=x _security=x _source=x _filter=x _query=x "
        "_text=x _content=x _list=x basedon=, "
        # Chains and modifiers that we do not have.
        "patient.name=x subject:Patient.name=x referrer.name:exact=Müller referrer.address=x "
        "basedon.status=x endpoint.address=x encounter.identifier=x modality:in=x "
        "modality:not-in=x modality:above=CT modality:below=CT modality:exact=CT modality:=CT "
        "started:text=2024 patient:text=p1 endpoint:text=x endpoint:not=x started:not=2024 "
        "identifier:of-type=x|y|z basedon:not=x patient:not=p1 subject:not=p1 "
        # Not a filter is said to be ignored where there is the total alone.
        "_count=0&_has:Observation:subject:code=1 _summary=count&modality:text=computed "
        "modality:text=computed&_count=0 "
        # Values that mean nothing.
        "patient:missing=x _id:missing=1 instance:not= identifier:not= basedon:identifier=",
        None,
    )
)
"""What is a 400 whatever the client prefers."""

FORMS = (*FORGIVEN, *FILTERS, *REFUSED)
