"""UIDs that break PS3.5 9.1, on a real Orthanc, which takes them: one answer to each form of
request.

Digits with single points between them, 128 characters at most, are asked for and compared to the
letter. Others are listed nowhere, and a path that names one is a 400 (dot segments: 404, as of any
path).
"""

import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pydicom
import pytest
import pytest_asyncio
from pydicom.uid import UID
from yarl import URL

from sidecar.fhir.imaging_study import study_id
from tests.data import ct_study
from tests.fakes.ehr import TOKEN
from tests.fakes.site import sidecar_between
from tests.fhir.profile import check_bundle
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Client, Served, ehr

pytestmark = pytest.mark.orthanc

SERVED = {
    "as the standard has it": "1.2.840.113.5",
    "a leading zero": "1.2.840.0113.5",
    "one component": "7",
    "one component with zeros": "007",
    "64 characters": "1." + "2" * 62,
    "65 characters": "1." + "2" * 63,
    "120 characters": "1." + "2" * 118,
}
NOT_SERVED = {
    "an empty component": ("1..2", 400),
    "a dot at the end": ("1.2.", 400),
    "a dot at the beginning": (".1.2", 400),
    "a dot": (".", 404),
    "two dots": ("..", 404),
    "three dots": ("...", 400),
    "129 characters": ("1." + "2" * 127, 400),
}
FOREIGN = "1.2.840.00113.5"
"""Another patient's: one more zero than one of ours has."""


def put(orthanc: Orthanc, image: pydicom.Dataset, patient: str, study: str) -> None:
    """Store an image whose series and instance UIDs break the standard as its study's does."""
    image.PatientID = patient
    with pydicom.config.disable_value_validation():
        image.StudyInstanceUID, image.SeriesInstanceUID = UID(study), UID(f"{study}.01")
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(f"{study}.01.1")
        image.save_as(written := io.BytesIO())
    orthanc.load(written.getvalue())


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require_orthanc()
    directory = tmp_path_factory.mktemp("uids")
    (file,) = ct_study(
        directory, instances=1, patient_id="p1", study_instance_uid="1.2.3", rows=8, columns=8
    )
    image = pydicom.dcmread(file)
    with Orthanc() as running:
        for study in SERVED.values():
            put(running, image, "p1", study)
        for study, _ in NOT_SERVED.values():
            put(running, image, "p1", study)
        put(running, image, "p2", FOREIGN)
        yield running


@pytest_asyncio.fixture
async def client(orthanc: Orthanc) -> AsyncIterator[Client]:
    settings: dict[str, Any] = {
        "pacs": {"dialect": "orthanc"},
        "fhir": {"detail": "instance"},
        "server": {"wado_uri": True},
    }
    async with (
        sidecar_between(ehr("p1"), Served(orthanc), **settings) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        yield Client(url, us)


def of(study: str) -> str:
    """The path of the study's instance."""
    return f"/wado-rs/studies/{study}/series/{study}.01/instances/{study}.01.1"


async def test_lists(client: Client) -> None:
    """QIDO-RS and FHIR have the same studies, and those that cannot be asked for are in neither."""
    assert await client.rows("/wado-rs/studies") == sorted(SERVED.values())
    bundle = await client.bundle("/fhir/ImagingStudy")
    check_bundle(bundle)
    listed = [entry["resource"] for entry in bundle["entry"] if entry["search"]["mode"] == "match"]
    uids = [one["identifier"][0]["value"].removeprefix("urn:oid:") for one in listed]
    assert sorted(uids) == sorted(SERVED.values())
    assert [one["id"] for one in listed] == list(map(study_id, uids))
    assert all(one["series"][0]["instance"] for one in listed)


async def test_pages(client: Client) -> None:
    """The place of a page is a UID."""
    path, found = "/fhir/ImagingStudy?_count=1", list[str]()
    while path:
        bundle = await client.bundle(path)
        found += [entry["resource"]["id"] for entry in bundle["entry"]]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        path = "/fhir/" + following[0].partition("/fhir/")[2] if following else ""
    assert sorted(found) == sorted(map(study_id, SERVED.values()))


@pytest.mark.parametrize("name", SERVED)
async def test_what_is_served(client: Client, name: str) -> None:
    study = SERVED[name]
    assert await client.rows(f"/wado-rs/studies?StudyInstanceUID={study}") == [study]
    assert await client.rows(f"/wado-rs/studies/{study}/series?SeriesInstanceUID={study}.01") == [
        study
    ]
    assert await client.rows(f"/wado-rs/studies/{study}/series/{study}.01/instances") == [study]
    for path in (
        f"/wado-rs/studies/{study}",
        of(study),
        of(study) + "/frames/1",
        of(study) + "/metadata",
    ):
        assert (await client.get(path))[0] == 200, path
    assert (
        await client.get(
            f"/wado-uri?requestType=WADO&studyUID={study}"
            f"&seriesUID={study}.01&objectUID={study}.01.1"
            "&contentType=application/dicom"
        )
    )[0] == 200
    status, body, _ = await client.get(f"/wado-rs/studies/{study}", "application/zip")
    assert status == 200
    assert len(zipfile.ZipFile(io.BytesIO(body)).namelist()) == 1
    read = await client.bundle(f"/fhir/ImagingStudy/{study_id(study)}")
    assert read["identifier"][0]["value"] == f"urn:oid:{study}"
    for search in (
        f"identifier=urn:oid:{study}",
        f"identifier={study}",
        f"identifier=urn:dicom:uid|urn:oid:{study}",
        f"_id={study_id(study)}",
        f"series={study}.01",
        f"instance=urn:oid:{study}.01.1",
    ):
        bundle = await client.bundle(f"/fhir/ImagingStudy?{quote(search, safe='=:')}")
        assert [entry["resource"]["id"] for entry in bundle["entry"]] == [study_id(study)], search
    metadata = json.loads((await client.get(of(study) + "/metadata"))[1])[0]
    urls = [one["BulkDataURI"] for one in metadata.values() if "BulkDataURI" in one]
    assert urls, "Orthanc names the pixels so"
    assert all(of(study) in url for url in urls)


@pytest.mark.parametrize("name", NOT_SERVED)
async def test_what_is_not_served(client: Client, name: str) -> None:
    study, status = NOT_SERVED[name]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us:
        for path in (f"/wado-rs/studies/{study}", of(study) + "/frames/1", of(study) + "/metadata"):
            async with us.get(URL(client.url + path, encoded=True)) as response:
                assert response.status == status, path
    assert await client.rows(f"/wado-rs/studies?StudyInstanceUID={study}") == []


@pytest.mark.parametrize(
    "study",
    [FOREIGN, "1.2.840.0113.05", "1.2.840.113.05", "8", "07", "1." + "2" * 64, "1." + "2" * 126],
)
async def test_one_zero_more_is_another_study(client: Client, study: str) -> None:
    """A foreign and an absent one are told alike, and neither is one of ours."""
    absent = "1.2.99"
    for path in ("/wado-rs/studies/{}", "/wado-rs/studies/{}/metadata"):
        wanted = await client.get(path.format(absent))
        assert wanted[0] == 404
        assert await client.get(path.format(study)) == wanted
    wanted = await client.get(f"/fhir/ImagingStudy/{study_id(absent)}")
    assert await client.get(f"/fhir/ImagingStudy/{study_id(study)}") == wanted
    assert await client.rows(f"/wado-rs/studies?StudyInstanceUID={study}") == []
