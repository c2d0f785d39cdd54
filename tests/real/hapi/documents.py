"""Every kind of FHIR document that a sidecar serves or writes, in a folder for HL7's validator."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from pydicom.dataset import Dataset

from sidecar.demo.people import WITH_TEST_FILES
from sidecar.demo.samples import fill
from tests.capability_keys import token_bound
from tests.dicom_instances import dataset, encoded
from tests.journey.world import World, make_world

Json = dict[str, Any]
VERSIONS = {"r4": "4.0", "r5": "5.0"}
_INCLUDE = "_include=ImagingStudy:endpoint"
SEARCHES = {
    "nothing": "identifier=urn:oid:1.2.3.4",
    "page": f"_count=1&{_INCLUDE}",
    "summary": f"_summary=true&{_INCLUDE}",
    "text": f"_summary=text&{_INCLUDE}",
    "elements": f"_elements=identifier,series&{_INCLUDE}",
    "total": "_summary=count",
    "ignored": "no-such-parameter=1",
}
FAULTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "date": ("/ImagingStudy?started=yesterday", {}),
    "patient": ("/ImagingStudy?patient=nobody", {}),
    "modifier": ("/ImagingStudy?modality:above=CT", {}),
    "format": ("/ImagingStudy?_format=xml", {}),
    "strict": ("/ImagingStudy?no-such-parameter=1", {"Prefer": "handling=strict"}),
    "token": ("/ImagingStudy", {"Authorization": "Bearer no-such-token"}),
    "study": ("/ImagingStudy/1.2.3.4", {}),
    "endpoint": ("/Endpoint/nobody", {}),
    "path": ("/Observation", {}),
}
WHOLE_STUDY = "1.2.826.0.1.3680043.8.498.1.55"


def write_documents(scratch: Path, folder: Path) -> None:
    """Write them to r4/ and r5/ in ``folder``."""
    for version in VERSIONS:
        (folder / version).mkdir(parents=True)
    images = scratch / "images"
    images.mkdir()
    fill(images)
    whole = encoded(_whole(next(one for one in WITH_TEST_FILES if one.id == "peter").mrns[0]))
    (images / "whole.dcm").write_bytes(whole)
    trail = scratch / "audit.jsonl"
    audit = {"audit": {"sink": "file", "file": str(trail), "site": "Example Hospital"}}
    kinds: dict[str, Json] = {
        "plain": {"fhir": {"detail": "instance", "timezone": "Europe/Vienna"}} | audit,
        "contained": {
            "fhir": {"contained_endpoint": True},
            "compat": {"requires_access_token": True},
        },
        "capabilities": {"capabilities": token_bound(scratch)},
    }
    for kind, changes in kinds.items():
        (directory := scratch / kind).mkdir()
        with make_world(directory, images, None, changes) as world:
            for name, document in _served(world, thorough=kind == "plain"):
                _write(folder, name.replace("/", f"/{kind}-"), document)
    for name, event in _kinds_of(trail.read_text().splitlines()):
        _write(folder, f"r4/audit-{name}", event)


def _whole(patient_id: str) -> Dataset:
    """An instance that has whatever we look for."""

    def code(value: str, designator: str, meaning: str) -> list[Dataset]:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, designator, meaning
        return [item]

    return dataset(
        PatientID=patient_id,
        StudyInstanceUID=WHOLE_STUDY,
        SeriesInstanceUID=WHOLE_STUDY + ".1",
        SOPInstanceUID=WHOLE_STUDY + ".1.1",
        StudyDate="20240229",
        StudyTime="101500",
        TimezoneOffsetFromUTC="+0100",
        AccessionNumber="A-1",
        StudyDescription="CT Schädel – Übersicht",
        ReferringPhysicianName="Müller^Änne^^Dr.",
        NameOfPhysiciansReadingStudy="Read^Er",
        ProcedureCodeSequence=code("241526005", "SCT", "CT of chest"),
        ReasonForRequestedProcedureCodeSequence=code("49727002", "SCT", "Cough"),
        PlacerOrderNumberImagingServiceRequest="O-1",
        SeriesDate="20240229",
        SeriesTime="101600",
        SeriesDescription="Übersicht",
        SeriesNumber=1,
        InstanceNumber=1,
        NumberOfFrames=3,
        Laterality="R",
        BodyPartExamined="CHEST",
        PerformingPhysicianName="Doe^Jane",
        OperatorsName="Op^Erator",
        ContentLabel="LABEL",
    )


def _served(world: World, *, thorough: bool) -> Iterator[tuple[str, Json]]:
    """Documents by version and name."""
    for version, number in VERSIONS.items():
        headers = {"Accept": f"application/fhir+json; fhirVersion={number}"}

        def got(session: requests.Session, path: str, more: Mapping[str, str] = headers) -> Json:
            answer = session.get(world.sidecar.fhir + path, headers=dict(more), timeout=60)
            assert answer.headers["Content-Type"].startswith("application/fhir+json"), path
            found: Json = answer.json()
            return found

        yield f"{version}/metadata", got(requests.Session(), "/metadata")
        for person in WITH_TEST_FILES:
            bundle = got(world.session(person.id), f"/ImagingStudy?{_INCLUDE}")
            yield f"{version}/search-{person.id}", bundle
        peter = world.session("peter")
        yield f"{version}/study", got(peter, f"/ImagingStudy/{WHOLE_STUDY}")
        if not thorough:
            continue
        yield f"{version}/endpoint", got(peter, "/Endpoint/peter")
        yield f"{version}/frames", got(peter, "/StructureDefinition/number-of-frames")
        yield f"{version}/versions", got(peter, "/$versions")
        for name, query in SEARCHES.items():
            yield f"{version}/search-{name}", got(peter, f"/ImagingStudy?{query}")
        for name, (path, more) in FAULTS.items():
            outcome = got(peter, path, {**headers, **more})
            assert outcome["resourceType"] == "OperationOutcome", name
            yield f"{version}/fault-{name}", outcome
        root = world.root("peter").removeprefix(world.sidecar.fhir)
        for path in (f"/studies/{WHOLE_STUDY}", f"/studies/{WHOLE_STUDY}/series", "/studies/1.2.3"):
            peter.get(f"{world.sidecar.fhir}{root}{path}", timeout=60)


def _kinds_of(lines: list[str]) -> Iterator[tuple[str, Json]]:
    """The first event of each kind."""
    found: dict[str, Json] = {}
    for line in lines:
        event: Json = json.loads(line)
        profile = event.get("meta", {}).get("profile", [""])[0].rpartition(".")[2]
        subtypes = [coding["code"] for coding in event.get("subtype", [])]
        kind = "-".join([event["type"]["code"], *subtypes, event["outcome"], profile])
        found.setdefault(kind, event)
    yield from found.items()


def _write(folder: Path, name: str, document: Json) -> None:
    (folder / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False, indent=1))
