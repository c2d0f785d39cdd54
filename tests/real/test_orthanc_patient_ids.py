"""Each printable character in a PatientID, at every place: a real Orthanc finds it, with others
that are left out.
"""

import io
import string
from collections.abc import Iterator

import aiohttp
import pydicom
import pytest
from pydicom.uid import UID

from sidecar.access.facts import PatientIdentifier
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.pacs.client import PacsClient
from sidecar.pacs.dialects import DIALECTS
from tests.data import ct_study
from tests.permits import ASKED
from tests.real.orthanc import Orthanc, require_orthanc

pytestmark = pytest.mark.orthanc

CHARACTERS = [*string.punctuation.replace("\\", ""), " ", "A", "7", "é", "山"]
"""A backslash separates values: no single one has it."""


def patient_ids(character: str) -> list[str]:
    """PatientIDs with the character alone, twice, first, last, and between others."""
    made = (
        character,
        character * 2,
        f"{character}x",
        f"x{character}",
        f"x{character}x",
        f"x{character}{character}x",
    )
    return [one for one in made if one == one.strip(" ") and one]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require_orthanc()
    directory = tmp_path_factory.mktemp("patients")
    (file,) = ct_study(
        directory, instances=1, patient_id="x", study_instance_uid="1.2.3", rows=8, columns=8
    )
    image = pydicom.dcmread(file)
    image.SpecificCharacterSet = "ISO_IR 192"
    with Orthanc() as running:
        for number, patient_id in enumerate(
            one for each in CHARACTERS for one in patient_ids(each)
        ):
            image.PatientID = patient_id
            image.StudyInstanceUID, image.SeriesInstanceUID = (
                UID(f"1.2.{number}"),
                UID(f"1.2.{number}.1"),
            )
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(
                f"1.2.{number}.1.1"
            )
            image.save_as(written := io.BytesIO())
            running.load(written.getvalue())
        yield running


@pytest.mark.parametrize("character", CHARACTERS)
async def test_each_is_found(orthanc: Orthanc, character: str) -> None:
    async with aiohttp.ClientSession() as session:
        client = PacsClient(session, orthanc.dicomweb_url, DIALECTS["orthanc"], timeout_seconds=60)
        for patient_id in patient_ids(character):
            asked = [("PatientID", patient_id), ("includefield", "00100020,00100021")]
            owners = [
                owner_of(row) for row in await client.search(Query("studies"), asked, permit=ASKED)
            ]
            assert owners.count(PatientIdentifier(patient_id)) == 1, patient_id
            if DIALECTS["orthanc"].writes_exactly(patient_id):
                assert len(owners) == 1, patient_id
