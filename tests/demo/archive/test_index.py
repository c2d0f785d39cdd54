"""Reading a folder as it may be: files that are no images, twice the same, two patients under one
UID.
"""

import logging
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from sidecar.access.facts import Part
from sidecar.demo.archive.index import read_folder
from sidecar.demo.archive.instance import StoredInstance
from sidecar.dicom.json_model import number, tag, text
from tests.data import ct_study

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
STUDY = "1.2.826.0.1.3680043.8.498.5"


def only(folder: Path) -> StoredInstance:
    (study,) = read_folder(folder).studies
    (instance,) = study.instances()
    return instance


def test_odd_files_are_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = ct_study(
        tmp_path / "a" / "b",
        instances=2,
        patient_id="1",
        study_instance_uid=STUDY,
        rows=8,
        columns=8,
    )
    shutil.copyfile(made[0], tmp_path / "z.dcm")
    shutil.copyfile(BUNDLED / "dicomdirtests" / "DICOMDIR", tmp_path / "DICOMDIR")
    shutil.copyfile(BUNDLED / "no_meta.dcm", tmp_path / "no_meta")
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    (tmp_path / "cut").write_bytes(made[0].read_bytes()[:200])
    with caplog.at_level(logging.INFO, logger="sidecar"):
        index = read_folder(tmp_path)
    assert [instance.path for instance in index.find(Part(STUDY))] == made
    (record,) = caplog.records
    assert (vars(record)["instances"], vars(record)["files_skipped"]) == (2, 6)


def test_every_bundled_file_is_read_or_skipped() -> None:
    """None of pydicom's deliberate oddities ends the reading."""
    index = read_folder(BUNDLED)
    assert sum(1 for study in index.studies for _ in study.instances()) > 100


def test_an_empty_folder_is_an_empty_archive(tmp_path: Path) -> None:
    assert read_folder(tmp_path).studies == []
    with pytest.raises(NotADirectoryError):
        read_folder(tmp_path / "missing")


def test_two_patients_under_one_study_uid_are_two_studies(tmp_path: Path) -> None:
    for seed, patient in enumerate(("1", "2")):
        ct_study(
            tmp_path / patient, instances=1, patient_id=patient, study_instance_uid=STUDY, seed=seed
        )
    index = read_folder(tmp_path)
    assert [text(study.attributes, "PatientID") for study in index.studies] == ["1", "2"]
    assert [
        number(study.attributes, "NumberOfStudyRelatedInstances") for study in index.studies
    ] == [1, 1]
    # Whoever retrieves by UID alone gets both, which is why the sidecar refuses.
    assert len(index.find(Part(STUDY))) == 2


def test_the_hierarchy_of_a_path_is_checked(tmp_path: Path) -> None:
    ct_study(
        tmp_path, instances=4, series=2, patient_id="1", study_instance_uid=STUDY, rows=8, columns=8
    )
    index = read_folder(tmp_path)
    first, second = (series.instances[0].part for series in index.studies[0].series)
    assert len(index.find(Part(STUDY, first.series))) == 2
    assert [instance.part for instance in index.find(first)] == [first]
    assert index.find(Part(STUDY, second.series, first.instance)) == []
    assert index.find(Part("1.2.3", first.series, first.instance)) == []
    assert index.find(Part("1.2.3")) == []


@pytest.mark.parametrize(
    ("name", "vr"),
    [
        ("MR_small.dcm", "OW"),
        ("MR_small_implicit.dcm", "OW"),
        ("MR_small_bigendian.dcm", "OW"),
        ("MR_small_RLE.dcm", "OB"),
        ("image_dfl.dcm", "OW"),
        ("rtplan.dcm", None),
    ],
)
def test_pixels_are_noticed_in_every_encoding(tmp_path: Path, name: str, vr: str | None) -> None:
    shutil.copyfile(BUNDLED / name, tmp_path / name)
    instance = only(tmp_path)
    assert instance.has_pixels is (vr is not None)
    assert instance.attributes.get(tag("PixelData"), {}).get("vr") == vr
    assert ("7FE00010" in instance.bulkdata) is (vr is not None)


def test_one_odd_value_does_not_spoil_the_rest(tmp_path: Path) -> None:
    """NumberOfFrames is ``1A``."""
    shutil.copyfile(BUNDLED / "badVR.dcm", tmp_path / "badVR.dcm")
    instance = only(tmp_path)
    assert text(instance.attributes, "Modality") == "RTDOSE"
    assert tag("NumberOfFrames") not in instance.attributes
    assert instance.number_of_frames == 1


def test_values_above_the_limit_are_bulk_data_also_in_sequences(tmp_path: Path) -> None:
    shutil.copyfile(BUNDLED / "waveform_ecg.dcm", tmp_path / "ecg.dcm")
    instance = only(tmp_path)
    assert set(instance.bulkdata) == {"54000100/1/54001010", "54000100/2/54001010"}


@pytest.mark.parametrize(
    ("name", "decodable"),
    [
        ("MR_small.dcm", True),
        ("MR_small_RLE.dcm", True),
        ("MR_small_jp2klossless.dcm", True),
        ("MR_small_jpeg_ls_lossless.dcm", True),
        ("examples_ybr_color.dcm", True),
        ("JPEG-lossy.dcm", False),  # twelve bits
        ("SC_rgb_jpeg_gdcm.dcm", False),  # lossless JPEG
        ("rtplan.dcm", True),
    ],
)
def test_what_can_be_decompressed(tmp_path: Path, name: str, *, decodable: bool) -> None:
    shutil.copyfile(BUNDLED / name, tmp_path / name)
    instance = only(tmp_path)
    assert instance.is_decodable is decodable
    if decodable and instance.has_pixels:
        assert dcmread(instance.path).pixel_array.size > 0


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_uncommon_transfer_syntaxes(tmp_path: Path, syntax: UID) -> None:
    dataset = dcmread(BUNDLED / "rtplan.dcm")
    dataset.file_meta.TransferSyntaxUID = syntax
    dcmwrite(
        tmp_path / "plan.dcm",
        dataset,
        implicit_vr=False,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    instance = only(tmp_path)
    assert instance.transfer_syntax == syntax
    assert not instance.has_pixels
    assert text(instance.attributes, "PatientID") == "id00001"
