"""Studies of patients whose PatientID has an issuer, or none."""

from pathlib import Path

import pydicom
from pydicom.uid import UID

from tests.data import ct_study
from tests.real.orthanc import Orthanc


def put_study(
    orthanc: Orthanc, folder: Path, study: str, *, patient_id: str, issuer: str | None
) -> None:
    """Store a study of one small image, whose other UIDs are below the study's."""
    (file,) = ct_study(
        folder,
        instances=1,
        patient_id=patient_id,
        study_instance_uid=study,
        issuer_of_patient_id=issuer or "",
        rows=8,
        columns=8,
    )
    image = pydicom.dcmread(file)
    image.SeriesInstanceUID, image.SOPInstanceUID = UID(f"{study}.1"), UID(f"{study}.1.1")
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(file)
    orthanc.load(file)
