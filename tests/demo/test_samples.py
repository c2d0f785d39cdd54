"""The demo's images are pydicom's own files, byte for byte, and such as real archives take."""

import hashlib
import socket
from collections import defaultdict
from pathlib import Path
from urllib.request import urlopen

import pydicom
import pytest
from pydicom import dcmread

from sidecar.demo.people import WITH_TEST_FILES
from sidecar.demo.samples import fill
from sidecar.dicom.uid import is_uid
from tests.real.orthanc import Orthanc, require_orthanc

BUNDLED = Path(pydicom.__file__).parent / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("samples") / "images"
    fill(made)
    return made


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_each_file_is_a_copy_of_a_bundled_one(folder: Path, files: list[Path]) -> None:
    bundled = {sha256(path.read_bytes()) for path in BUNDLED.rglob("*") if path.is_file()}
    assert len(files) > 100
    assert files == sorted(path for path in folder.rglob("*") if path.is_file())
    assert {sha256(path.read_bytes()) for path in files} <= bundled


def test_each_can_be_filed_under_its_own_uids(files: list[Path]) -> None:
    """One file for each SOPInstanceUID, which is its name; each study has one patient."""
    patients = defaultdict(set)
    for path in files:
        dataset = dcmread(path, stop_before_pixels=True)
        assert path.stem == dataset.SOPInstanceUID
        assert all(
            is_uid(uid) for uid in (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, path.stem)
        )
        assert dataset.PatientID.strip()
        patients[dataset.StudyInstanceUID].add(dataset.PatientID)
    assert all(len(owners) == 1 for owners in patients.values())


def test_every_patient_of_the_demo_has_images_and_others_have_some(files: list[Path]) -> None:
    studies = defaultdict(set)
    modalities = defaultdict(set)
    for path in files:
        dataset = dcmread(path, stop_before_pixels=True)
        studies[dataset.PatientID].add(dataset.StudyInstanceUID)
        modalities[dataset.PatientID].add(dataset.Modality if "Modality" in dataset else None)
    mrns = {mrn for patient in WITH_TEST_FILES for mrn in patient.mrns}
    assert mrns <= studies.keys()
    assert len(studies.keys() - mrns) > 10
    assert len(studies["98890234"]) == 4
    assert "CR" in modalities["77654033"]
    assert {"CT", "MR", "CR", "US", "NM", "RTDOSE", "RTPLAN", "SEG", "ECG"} <= set().union(
        *modalities.values()
    )


def test_there_is_an_image_that_every_archive_can_draw(files: list[Path]) -> None:
    """Uncompressed, one frame: the journey draws it."""
    drawable = [
        dataset
        for dataset in map(dcmread, files)
        if dataset.PatientID == "98890234" and dataset.Modality == "MR" and "PixelData" in dataset
    ]
    assert drawable
    assert not any(
        image.file_meta.TransferSyntaxUID.is_compressed or "NumberOfFrames" in image
        for image in drawable
    )


def test_nothing_is_fetched_and_a_second_time_changes_nothing(
    folder: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("filling the archive must not use the network")

    monkeypatch.setattr(socket, "socket", refuse)
    for _ in range(2):
        fill(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in files
    }


@pytest.mark.orthanc
def test_a_real_orthanc_stores_the_same_bytes(files: list[Path]) -> None:
    require_orthanc()
    with Orthanc() as orthanc:
        stored = {}
        for path in files:
            identifier = orthanc.load(path)
            uid = orthanc.get_json(f"/instances/{identifier}/simplified-tags")["SOPInstanceUID"]
            with urlopen(f"{orthanc.url}/instances/{identifier}/file", timeout=60) as response:
                stored[uid] = sha256(response.read())
        assert stored == {path.stem: sha256(path.read_bytes()) for path in files}
        assert orthanc.get_json("/statistics")["CountInstances"] == len(files)
