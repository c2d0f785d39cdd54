"""Imaging studies made for tests: valid, repeatable, as large as real ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

SLICE_THICKNESS_MM = 1.25
PIXEL_SPACING_MM = 0.75


def ct_study(
    directory: Path,
    *,
    instances: int,
    patient_id: str,
    study_instance_uid: str,
    seed: int = 0,
    series: int = 1,
    patient_name: str = "Doe^Jane",
    issuer_of_patient_id: str = "",
    accession_number: str = "",
    study_date: str = "20240229",
    study_time: str = "091500",
    study_description: str = "CT Thorax",
    rows: int = 512,
    columns: int = 512,
) -> list[Path]:
    """Write a CT study into ``directory`` and return its files, by series and then by instance
    number.

    ``instances`` is the number in the whole study, spread evenly over its ``series``. The pixels
    are noise, which no transfer or storage compresses: 512 x 512 makes half a megabyte an instance.
    The same arguments make the same bytes, UIDs included; another ``seed`` makes other series and
    instances of the study.
    """
    if instances < series or series < 1:
        raise ValueError("a study has one series or more, and each series one instance or more")
    if not UID(study_instance_uid).is_valid:
        raise ValueError(f"not a UID: {study_instance_uid!r}")
    directory.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    study = _study(patient_id, patient_name, issuer_of_patient_id)
    study.StudyInstanceUID = study_instance_uid
    study.StudyID = "1"
    study.StudyDate = study_date
    study.StudyTime = study_time
    study.StudyDescription = study_description
    study.AccessionNumber = accession_number
    study.Rows = rows
    study.Columns = columns

    paths = []
    for image in _images(study, instances, series, seed):
        image.PixelData = noise.bytes(rows * columns * 2)
        path = directory / f"CT.{image.SOPInstanceUID}.dcm"
        dcmwrite(path, image, enforce_file_format=True)
        paths.append(path)
    return paths


def _study(patient_id: str, patient_name: str, issuer_of_patient_id: str) -> Dataset:
    """What all instances of a study have in common, apart from the study itself."""
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    common.SOPClassUID = CTImageStorage
    common.PatientName = patient_name
    common.PatientID = patient_id
    if issuer_of_patient_id:
        common.IssuerOfPatientID = issuer_of_patient_id
    common.PatientBirthDate = "19700131"
    common.PatientSex = "O"
    common.PatientPosition = "HFS"
    common.ReferringPhysicianName = ""
    common.Modality = "CT"
    common.Manufacturer = "Test"
    common.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    common.BodyPartExamined = "CHEST"
    common.KVP = 120
    common.SliceThickness = SLICE_THICKNESS_MM
    common.PixelSpacing = [PIXEL_SPACING_MM, PIXEL_SPACING_MM]
    common.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    common.PositionReferenceIndicator = ""
    common.SamplesPerPixel = 1
    common.PhotometricInterpretation = "MONOCHROME2"
    common.BitsAllocated = 16
    common.BitsStored = 16
    common.HighBit = 15
    common.PixelRepresentation = 1
    common.RescaleIntercept = 0
    common.RescaleSlope = 1
    common.RescaleType = "HU"
    common.WindowCenter = 40
    common.WindowWidth = 400
    return common


def _images(study: Dataset, instances: int, series: int, seed: int) -> Iterator[Dataset]:
    """The study's images without their pixels: one dataset, changed from one to the next."""
    image = study
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    names = [str(study.StudyInstanceUID), str(seed)]
    image.FrameOfReferenceUID = generate_uid(entropy_srcs=[*names, "frame of reference"])
    for series_number in range(1, series + 1):
        image.SeriesInstanceUID = generate_uid(entropy_srcs=[*names, "series", str(series_number)])
        image.SeriesNumber = series_number
        image.SeriesDescription = f"Axial {series_number}"
        image.SeriesDate = image.AcquisitionDate = image.ContentDate = study.StudyDate
        image.SeriesTime = image.AcquisitionTime = image.ContentTime = study.StudyTime
        image.AcquisitionNumber = series_number
        for number in range(1, instances // series + (series_number <= instances % series) + 1):
            image.SOPInstanceUID = generate_uid(
                entropy_srcs=[*names, "image", str(series_number), str(number)]
            )
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.InstanceNumber = number
            position = (number - 1) * SLICE_THICKNESS_MM
            half_width, half_height = (
                PIXEL_SPACING_MM * size / 2 for size in (study.Columns, study.Rows)
            )
            image.ImagePositionPatient = [-half_width, -half_height, position]
            image.SliceLocation = position
            yield image
