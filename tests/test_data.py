"""The studies made for tests are what they claim to be."""

import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from tests.data import ct_study

STUDY = "1.2.826.0.1.3680043.8.498.1"


def small(directory: Path, *, seed: int = 0, instances: int = 5, series: int = 2) -> list[Path]:
    return ct_study(
        directory,
        instances=instances,
        patient_id="P-1",
        study_instance_uid=STUDY,
        seed=seed,
        series=series,
        rows=64,
        columns=48,
    )


def test_an_image_is_a_whole_ct_slice(tmp_path: Path) -> None:
    (path,) = ct_study(
        tmp_path / "new",
        instances=1,
        patient_id="P-1",
        study_instance_uid=STUDY,
        patient_name="Æ^Ö",
    )
    image = dcmread(path)
    assert path.stat().st_size == pytest.approx(512 * 512 * 2, rel=0.01)
    assert len(zlib.compress(path.read_bytes(), 1)) > 0.99 * path.stat().st_size
    assert image.pixel_array.shape == (512, 512)
    assert image.pixel_array.dtype == "int16"
    assert (image.PatientID, str(image.PatientName)) == ("P-1", "Æ^Ö")
    assert image.StudyInstanceUID == STUDY
    assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert image.file_meta.MediaStorageSOPClassUID == image.SOPClassUID == CTImageStorage


def test_instances_spread_over_series_with_their_own_uids(tmp_path: Path) -> None:
    images = [dcmread(path) for path in small(tmp_path)]
    assert [(image.SeriesNumber, image.InstanceNumber) for image in images] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
    ]
    assert len({image.SeriesInstanceUID for image in images}) == 2
    assert len({image.SOPInstanceUID for image in images}) == 5
    assert {image.StudyInstanceUID for image in images} == {STUDY}
    for image in images:
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        for uid in (image.SeriesInstanceUID, image.SOPInstanceUID, image.FrameOfReferenceUID):
            assert UID(uid).is_valid


def test_the_same_arguments_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = small(tmp_path / "first"), small(tmp_path / "second")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    other = small(tmp_path / "other", seed=1)
    assert not {path.name for path in first} & {path.name for path in other}
    assert dcmread(first[0]).PixelData != dcmread(other[0]).PixelData


@pytest.mark.parametrize(("instances", "series"), [(0, 1), (1, 2), (1, 0)])
def test_a_study_without_images_is_refused(tmp_path: Path, instances: int, series: int) -> None:
    with pytest.raises(ValueError, match="one instance or more"):
        small(tmp_path, instances=instances, series=series)


def test_a_study_uid_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a UID"):
        ct_study(tmp_path, instances=1, patient_id="P-1", study_instance_uid="1.02.x")
