"""QIDO-RS of the embedded archive, as clients see it, and the same queries at a real Orthanc."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from pydicom import dcmread

from sidecar.demo.samples import fill
from sidecar.dicom.json_model import number, tag, text, texts
from tests.data import ct_study
from tests.real.orthanc import Orthanc, require_orthanc

PETER = "98890234"
STUDY = "1.3.6.1.4.1.5962.1.1.0.0.0.1196533885.18148.0.427"
OTHER_STUDY = "1.2.999.999.99.9.9999.8888"
MADE_STUDY = "1.2.826.0.1.3680043.8.498.77"
UID_OF = {
    "studies": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instances": "SOPInstanceUID",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pydicom's files, and a study of two series and five instances under an issuer."""
    made: Path = tmp_path_factory.mktemp("images")
    fill(made)
    ct_study(
        made / "made",
        instances=5,
        series=2,
        patient_id="A 1",
        issuer_of_patient_id="North",
        study_instance_uid=MADE_STUDY,
        accession_number="X-77",
        rows=8,
        columns=8,
    )
    return made


@pytest.fixture(scope="module")
def orthanc(folder: Path) -> Iterator[Orthanc]:
    require_orthanc()
    with Orthanc() as running:
        running.load_folder(folder)
        yield running


def rows(root: str, query: str) -> list[dict[str, Any]]:
    """The rows of a search whose URL goes out exactly as written: Orthanc does not decode what
    requests encodes.
    """
    url = urlsplit(root)
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    try:
        connection.request(
            "GET", f"{url.path}/{query}", headers={"Accept": "application/dicom+json"}
        )
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status == 204:
        assert body == b""
        return []
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/dicom+json"
    found: list[dict[str, Any]] = json.loads(body)
    return found


def uids(root: str, query: str) -> list[str]:
    level = query.split("?", maxsplit=1)[0].rsplit("/", 1)[-1]
    return [texts(row, UID_OF[level])[0] for row in rows(root, query)]


@pytest.mark.orthanc
@pytest.mark.parametrize(
    "query",
    [
        "studies",
        "series",
        "instances",
        f"studies/{STUDY}/series",
        f"studies/{STUDY}/instances",
        f"studies/{MADE_STUDY}/instances",
        "studies/1.2.3/series",
        "studies/1.2.3/instances",
        f"studies?PatientID={PETER}",
        f"studies?00100020={PETER}",
        "studies?PatientID=9889*",
        "studies?PatientID=?CT1",
        "studies?PatientID=nobody",
        "studies?PatientID=",
        "studies?PatientName=*",
        "studies?PatientName=Doe^Peter",
        "studies?PatientName=doe^peter",
        "studies?PatientName=DOE*",
        "studies?PatientName=*^P?ter",
        "studies?PatientName=Doe^Peter&fuzzymatching=true",
        "studies?PatientSex=M",
        "studies?IssuerOfPatientID=North",
        "studies?StudyDate=20040826",
        "studies?StudyDate=20100101-",
        "studies?StudyDate=20040101-20051231",
        "studies?StudyTime=120000-",
        "studies?StudyTime=000000-115959",
        f"studies?StudyInstanceUID={STUDY}",
        f"studies?StudyInstanceUID={STUDY},{OTHER_STUDY}",
        "studies?ModalitiesInStudy=CT",
        f"studies?PatientID={PETER}&ModalitiesInStudy=CT",
        "studies?AccessionNumber=428",
        "studies?StudyID=428",
        "studies?ReferringPhysicianName=mori*",
        "series?Modality=MR",
        f"series?PatientID={PETER}&Modality=CT",
        "series?SeriesNumber=1",
        "series?StudyDate=20030505&Modality=MR",
        f"studies/{STUDY}/series?Modality=MR",
        f"studies/{STUDY}/series?Modality=CT",
        f"studies/{STUDY}/instances?Modality=MR",
        "instances?Modality=MR",
        "instances?PatientID=77654033",
        "instances?PatientID=77654033&Modality=CR&InstanceNumber=1",
        "instances?SOPClassUID=1.2.840.10008.5.1.4.1.1.4",
        "instances?SOPInstanceUID=1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457",
        "instances?InstanceNumber=1",
        "instances?Rows=64",
    ],
)
def test_a_real_orthanc_finds_the_same(root: str, orthanc: Orthanc, query: str) -> None:
    assert sorted(uids(root, query)) == sorted(uids(orthanc.dicomweb_url, query))


@pytest.mark.orthanc
def test_a_real_orthanc_counts_the_same(root: str, orthanc: Orthanc) -> None:
    fields = (
        "includefield=NumberOfStudyRelatedSeries,NumberOfStudyRelatedInstances,ModalitiesInStudy"
    )

    def counted(archive: str) -> dict[str | None, tuple[Any, ...]]:
        return {
            text(row, "StudyInstanceUID"): (
                number(row, "NumberOfStudyRelatedSeries"),
                number(row, "NumberOfStudyRelatedInstances"),
                sorted(texts(row, "ModalitiesInStudy")),
            )
            for row in rows(archive, f"studies?{fields}")
        }

    ours, theirs = counted(root), counted(orthanc.dicomweb_url)
    assert ours == theirs


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # Where Orthanc 1.10 differs from the standard: it ignores case in all text, finds empty
        # dates below a limit, and knows no lists with backslashes.
        ("studies?PatientID=1ct1", 0),
        ("studies?StudyDate=-19000101", 0),
        ("studies?ModalitiesInStudy=CR\\US", 6),
        (f"studies?StudyInstanceUID={STUDY}\\{OTHER_STUDY}", 2),
        ("studies?PatientID=A%201", 1),
        ("studies?PatientID=A+1", 1),
        ("studies?PatientName=Doe%5EPeter", 4),
        ("studies?PatientName=%E5%B1%B1%E7%94%B0*", 2),
        ("studies?IssuerOfPatientID=South", 0),
        ("studies?PatientID=A%201&IssuerOfPatientID=North", 1),
        ("studies?Modality=CT", 5),
        ("studies?Modality=CT&Modality=MR", 0),
        ("series?ProcedureCodeSequence.CodeValue=none", 0),
        (f"series/{'1.2.3'}/instances", 0),
        ("studies?limit=0", 0),
        ("studies?offset=1000", 0),
    ],
)
def test_what_is_found(root: str, query: str, expected: int) -> None:
    if query == "studies?Modality=CT":
        expected += 1  # The made study.
    assert len(rows(root, query)) == expected


def test_series_and_instances_below_a_path_are_its_own(root: str, folder: Path) -> None:
    truth = [dcmread(path, stop_before_pixels=True) for path in (folder / "made").iterdir()]
    series = uids(root, f"studies/{MADE_STUDY}/series")
    assert set(series) == {dataset.SeriesInstanceUID for dataset in truth}
    for uid in series:
        inside = uids(root, f"studies/{MADE_STUDY}/series/{uid}/instances")
        assert set(inside) == {one.SOPInstanceUID for one in truth if one.SeriesInstanceUID == uid}
        assert uids(root, f"series/{uid}/instances") == inside
        assert uids(root, f"studies/{STUDY}/series/{uid}/instances") == []
    numbers = [
        number(row, "InstanceNumber") for row in rows(root, f"studies/{MADE_STUDY}/instances")
    ]
    assert numbers == [1, 2, 3, 1, 2]


@pytest.mark.parametrize(
    "resource", ["studies", "series", "instances", f"studies/{MADE_STUDY}/instances"]
)
def test_pages_are_the_whole_list_in_its_order(root: str, resource: str) -> None:
    everything = uids(root, resource)
    assert len(set(everything)) == len(everything)
    for size in (1, 7):
        paged = [
            uid
            for offset in range(0, len(everything) + size, size)
            for uid in uids(root, f"{resource}?limit={size}&offset={offset}")
        ]
        assert paged == everything


def test_the_attributes_of_each_level(root: str) -> None:
    """PS3.18 tables 10.6.3-3 to 10.6.3-5."""
    study = rows(root, f"studies?StudyInstanceUID={MADE_STUDY}")[0]
    assert text(study, "StudyDate") == "20240229"
    assert text(study, "StudyTime") == "091500"
    assert text(study, "AccessionNumber") == "X-77"
    assert text(study, "InstanceAvailability") == "ONLINE"
    assert texts(study, "ModalitiesInStudy") == ["CT"]
    assert study[tag("PatientName")] == {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}
    assert study[tag("ReferringPhysicianName")] == {"vr": "PN"}
    assert text(study, "PatientID") == "A 1"
    assert text(study, "PatientBirthDate") == "19700131"
    assert text(study, "PatientSex") == "O"
    assert text(study, "StudyID") == "1"
    assert study[tag("NumberOfStudyRelatedSeries")] == {"vr": "IS", "Value": [2]}
    assert study[tag("NumberOfStudyRelatedInstances")] == {"vr": "IS", "Value": [5]}
    assert text(study, "RetrieveURL") == f"{root}/studies/{MADE_STUDY}"
    assert text(study, "SpecificCharacterSet") == "ISO_IR 192"
    assert tag("Modality") not in study

    series = rows(root, f"studies/{MADE_STUDY}/series?SeriesNumber=2")[0]
    assert text(series, "Modality") == "CT"
    assert text(series, "SeriesDescription") == "Axial 2"
    assert number(series, "SeriesNumber") == 2
    assert number(series, "NumberOfSeriesRelatedInstances") == 2
    below = f"{root}/studies/{MADE_STUDY}/series/{text(series, 'SeriesInstanceUID')}"
    assert text(series, "RetrieveURL") == below
    assert tag("PatientName") not in series
    assert text(rows(root, f"series?StudyInstanceUID={MADE_STUDY}")[0], "PatientName") is None
    assert (
        rows(root, f"series?StudyInstanceUID={MADE_STUDY}")[0][tag("PatientName")]
        == study[tag("PatientName")]
    )

    instance = rows(root, f"studies/{MADE_STUDY}/instances?SeriesNumber=2&InstanceNumber=2")[0]
    assert text(instance, "SOPClassUID") == "1.2.840.10008.5.1.4.1.1.2"
    assert (
        number(instance, "Rows"),
        number(instance, "Columns"),
        number(instance, "BitsAllocated"),
    ) == (8, 8, 16)
    assert number(instance, "InstanceNumber") == 2
    assert text(instance, "RetrieveURL") == f"{below}/instances/{text(instance, 'SOPInstanceUID')}"
    assert number(instance, "SeriesNumber") == 2
    assert tag("StudyDate") not in instance


def test_fields_that_are_asked_for(root: str) -> None:
    """By name, by tag, in lists, again and again; what has no value comes empty; below the level it
    does not come.
    """
    query = f"studies?StudyInstanceUID={MADE_STUDY}&includefield="
    row = rows(
        root,
        query + "IssuerOfPatientID,00081030&includefield=NumberOfPatientRelatedStudies,PatientAge",
    )[0]
    assert text(row, "IssuerOfPatientID") == "North"
    assert text(row, "StudyDescription") == "CT Thorax"
    assert number(row, "NumberOfPatientRelatedStudies") == 1
    assert row[tag("PatientAge")] == {"vr": "AS"}
    everything = rows(root, query + "all")[0]
    assert text(everything, "IssuerOfPatientID") == "North"
    assert number(everything, "NumberOfPatientRelatedInstances") == 5
    assert tag("Rows") not in everything
    of_instance = rows(root, f"studies/{MADE_STUDY}/instances?includefield=all")[0]
    assert text(of_instance, "FrameOfReferenceUID")
    assert tag("PixelData") not in of_instance
    assert text(of_instance, "PatientID") == "A 1"
    keyed = rows(root, f"series?StudyInstanceUID={MADE_STUDY}&PatientPosition=HFS")[0]
    assert text(keyed, "PatientPosition") == "HFS"


def test_names_come_in_unicode_with_all_groups(root: str) -> None:
    names = {
        text(row, "PatientID"): row[tag("PatientName")]["Value"][0]
        for row in rows(root, "studies?PatientName=?*")
    }
    assert names["H31EXAMPLE"] == {
        "Alphabetic": "Yamada^Tarou",
        "Ideographic": "山田^太郎",
        "Phonetic": "やまだ^たろう",
    }
    assert names["SCSFREN"]["Alphabetic"] == "Buc^Jérôme"
    assert names["SCSRUSS"]["Alphabetic"] == "Люкceмбypг"


@pytest.mark.parametrize(
    "query",
    [
        "studies?limit=x",
        "studies?limit=-1",
        "studies?limit=1&limit=2",
        "studies?offset=1.5",
        "studies?limit=%D9%A1",
        "studies?fuzzymatching=maybe",
        "studies?Nonsense=1",
        "studies?FFFFFFFF=1",
        "studies?includefield=Nonsense",
        "studies?StudyDate=yesterday",
        "studies?NumberOfStudyRelatedInstances=many",
        "studies/1.2.x/series",
        "studies/1..2/series",
    ],
)
def test_malformed_searches_are_400(root: str, query: str) -> None:
    response = requests.get(f"{root}/{query}", timeout=60)
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/plain")


def test_json_is_the_only_form(root: str) -> None:
    for accept, status in {
        "application/dicom+json": 200,
        "application/json": 200,
        "*/*": 200,
        'multipart/related; type="application/dicom+xml", application/dicom+json;q=0.5': 200,
        'multipart/related; type="application/dicom+xml"': 406,
        "text/html": 406,
        "nonsense": 400,
    }.items():
        response = requests.get(f"{root}/studies", headers={"Accept": accept}, timeout=60)
        assert response.status_code == status, accept


def test_literal_matching_says_so_when_fuzzy_was_asked_for(root: str) -> None:
    response = requests.get(f"{root}/studies?PatientName=Doe*&fuzzymatching=true", timeout=60)
    assert response.headers["Warning"].startswith("299 ")
    assert "Warning" not in requests.get(f"{root}/studies?fuzzymatching=false", timeout=60).headers
