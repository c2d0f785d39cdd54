"""Bulk data of a real Orthanc: encapsulated documents, pixel data, a private element, a tag path in
a sequence.
"""

import io
from collections.abc import Iterator
from typing import Any

import aiohttp
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    EncapsulatedCDAStorage,
    EncapsulatedPDFStorage,
    EncapsulatedSTLStorage,
    ExplicitVRLittleEndian,
)

from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.orthanc import Orthanc, require_orthanc

pytestmark = pytest.mark.orthanc

STUDY = "1.2.840.77"
PDF = b"%PDF-1.4\n" + b"% a report\n" * 20_000
STL = b"solid heart" + b"\0" * 69 + bytes(range(256)) * 20
PRIVATE, NESTED = b"private!" * 400, b"a document in a sequence" * 80
DOCUMENTS: dict[str, tuple[UID, str, bytes]] = {
    "1": (EncapsulatedPDFStorage, "application/pdf", PDF),
    "2": (EncapsulatedSTLStorage, "model/stl", STL),
    "3": (EncapsulatedCDAStorage, "text/XML", b"<ClinicalDocument/>" * 10),
}


def document(number: str) -> bytes:
    sop_class, media_type, content = DOCUMENTS[number]
    made = Dataset()
    made.PatientID, made.PatientName, made.Modality = PATIENT, "Doe^Jane", "DOC"
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, f"{STUDY}.{number}"
    made.SOPClassUID, made.SOPInstanceUID = sop_class, f"{STUDY}.{number}.1"
    made.MIMETypeOfEncapsulatedDocument = media_type
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    made.private_block(0x0009, "VENDOR", create=True).add_new(1, "OB", PRIVATE)
    item = Dataset()
    item.add_new(0x00420011, "OB", NESTED)
    made.add_new(0x00400260, "SQ", [item])
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = sop_class
    made.file_meta.MediaStorageSOPInstanceUID = UID(made.SOPInstanceUID)
    written = io.BytesIO()
    pydicom.dcmwrite(written, made, enforce_file_format=True)
    return written.getvalue()


class Archive:
    """An Orthanc with the documents and an image, as ``sidecar_between`` wants it."""

    def __init__(self, orthanc: Orthanc) -> None:
        self._orthanc = orthanc
        for number in DOCUMENTS:
            orthanc.load(document(number))
        name = get_testdata_file("CT_small.dcm", download=False)
        assert isinstance(name, str)
        image = pydicom.dcmread(name)
        image.PatientID, image.StudyInstanceUID, image.SeriesInstanceUID = (
            PATIENT,
            STUDY,
            f"{STUDY}.4",
        )
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(f"{STUDY}.4.1")
        self.pixels = image.PixelData
        written = io.BytesIO()
        image.save_as(written)
        orthanc.load(written.getvalue())

    def serve(self) -> Any:
        """Yields the DICOMweb root."""
        return _Root(self._orthanc.dicomweb_url)


class _Root:
    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> str:
        return self._url

    async def __aexit__(self, *_: object) -> None:
        """Orthanc goes on."""


@pytest.fixture(scope="module")
def archive() -> Iterator[Archive]:
    require_orthanc()
    with Orthanc() as orthanc:
        yield Archive(orthanc)


OCTETS = "application/octet-stream"
# Series, tag path -> the value; each is asked for at the BulkDataURI of the metadata.
VALUES: dict[str, tuple[str, tuple[str, ...], bytes]] = {
    "an encapsulated PDF": ("1", ("00420011",), PDF),
    "an encapsulated STL": ("2", ("00420011",), STL),
    "a private element": ("1", ("00091001",), PRIVATE),
    "an element in a sequence": ("2", ("00400260", "00420011"), NESTED),
    "an encapsulated CDA, which nobody takes for one": ("3", ("00420011",), DOCUMENTS["3"][2]),
    "pixel data": ("4", ("7FE00010",), b""),
}


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize(
    "accept", [OCTETS, "application/pdf", "model/stl", "*/*", 'multipart/related; type="model/obj"']
)
async def test_what_the_metadata_name_can_be_had(archive: Archive, what: str, accept: str) -> None:
    """Orthanc has bulk data as octets in a multipart alone, whatever they are; it refuses any other
    type.
    """
    number, path, content = VALUES[what]
    content = content or archive.pixels
    instance = f"/wado-rs/studies/{STUDY}/series/{STUDY}.{number}/instances/{STUDY}.{number}.1"
    async with (
        sidecar_between(ScriptedEhr(), archive, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        async with client.get(f"{url}{instance}/metadata") as response:
            assert response.status == 200, await response.text()
            (row,) = await response.json(content_type=None)
        for tag in path[:-1]:
            (row,) = row[tag]["Value"]
        named = row[path[-1]]["BulkDataURI"]
        assert named.startswith("http://sidecar.example.org" + instance)
        async with client.get(
            named.replace("http://sidecar.example.org", url), headers={"Accept": accept}
        ) as response:
            body = await response.read()
            assert response.status == 200, body
            assert int(response.headers["Content-Length"]) == len(body)
            if accept in (OCTETS, "application/pdf", "model/stl"):
                assert response.content_type == OCTETS
                assert body.rstrip(b"\0") == content.rstrip(b"\0")
            else:
                assert response.content_type == "multipart/related"
                assert content in body
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_by_keyword(archive: Archive) -> None:
    instance = f"/wado-rs/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
    async with (
        sidecar_between(ScriptedEhr(), archive, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {TOKEN}", "Accept": OCTETS}
        ) as client,
    ):
        for name, status in (
            ("EncapsulatedDocument", 200),
            ("encapsulateddocument", 404),
            ("SOPClassUIDs", 404),
        ):
            async with client.get(f"{url}{instance}/bulkdata/{name}") as response:
                assert response.status == status
                assert (await response.read()).startswith(PDF) is (status == 200)


@pytest.mark.parametrize(
    "accept", ["text/html", "text/xml", "image/svg+xml", 'multipart/related; type="text/xml"']
)
async def test_what_a_browser_would_run_is_refused(archive: Archive, accept: str) -> None:
    instance = f"/wado-rs/studies/{STUDY}/series/{STUDY}.3/instances/{STUDY}.3.1"
    async with (
        sidecar_between(ScriptedEhr(), archive, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {TOKEN}", "Accept": accept}
        ) as client,
        client.get(f"{url}{instance}/bulkdata/00420011") as response,
    ):
        assert response.status == 406


async def test_frames_have_a_content_length(archive: Archive) -> None:
    """Orthanc names one for a multipart of several values, too, and nothing of it is rewritten."""
    study = f"/wado-rs/studies/{STUDY}"
    async with (
        sidecar_between(ScriptedEhr(), archive, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        client.get(f"{url}{study}/series/{STUDY}.4/instances/{STUDY}.4.1/frames/1") as response,
    ):
        body = await response.read()
        assert (response.status, int(response.headers["Content-Length"])) == (200, len(body))
        assert archive.pixels in body
