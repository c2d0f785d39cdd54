"""The studies of these tests: small, repeatable, all of a patient with the number 4711."""

from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import MPEG2MPML

from tests.data import ct_study
from tests.dicom_instances import dataset, encoded

MRN = "4711"
_ROOT = "1.2.826.0.1.3680043.8.498.7"
MANY = [f"{_ROOT}.1.{number}" for number in range(1, 24)]
LARGE = f"{_ROOT}.2"
COMPRESSED = f"{_ROOT}.3"
ALL = [*MANY, LARGE, COMPRESSED]
SEVERAL_FRAMES = MANY[-1]
OF_A = [f"{_ROOT}.4.{number}" for number in range(1, 4)]
OF_B = [f"{_ROOT}.5.{number}" for number in range(1, 3)]
OF_NOBODY = [f"{_ROOT}.6"]
SHARED = f"{_ROOT}.7"
UNDECODABLE = f"{_ROOT}.3.9.9"


def small_study(
    folder: Path, uid: str, *, issuer: str, instances: int = 1, series: int = 1, **more: Any
) -> list[Path]:
    """Write a CT study with images of 16 x 16; returns its files."""
    return ct_study(
        folder,
        instances=instances,
        series=series,
        patient_id=MRN,
        issuer_of_patient_id=issuer,
        study_instance_uid=uid,
        rows=16,
        columns=16,
        accession_number=uid.rpartition(".")[2],
        **more,
    )


def repeat_frame(file: Path) -> None:
    """Make a multi-frame image of two frames of an image."""
    image = dcmread(file)
    image.NumberOfFrames = 2
    image.PixelData *= 2
    image.save_as(file)


def undecodable_instance(file: Path, study: str) -> None:
    """Write an instance in a transfer syntax from which nobody converts."""
    made = dataset(
        PatientID=MRN,
        IssuerOfPatientID="A",
        StudyInstanceUID=study,
        SeriesInstanceUID=f"{study}.9",
        SOPInstanceUID=UNDECODABLE,
    )
    file.write_bytes(encoded(made, MPEG2MPML))
