"""DICOM data sets around the pixels of phantoms: the modules that all of them have (PS3.3)."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from sidecar.demo.people import DemoPatient
from sidecar.demo.phantoms.noise import Field

_UID_ROOT = "1.2.826.0.1.3680043.8.498."
"""pydicom's, below which a UID is the hash of a text."""


def uid(*names: object) -> UID:
    """Return a UID that is the same for the same names."""
    return generate_uid(_UID_ROOT, ["smart-imaging-sidecar demo", *map(str, names)])


@dataclass(frozen=True, slots=True)
class StudyLabel:
    """What all instances of a study have in common.

    ``key`` names it. ``date`` and ``time`` are UTC.
    """

    key: str
    patient: DemoPatient
    description: str
    date: str
    time: str
    accession: str
    body_part: str

    @property
    def uid(self) -> UID:
        """Its StudyInstanceUID."""
        return uid(self.key)

    def series(self, number: int, modality: str, description: str) -> Dataset:
        """Return a data set with the attributes of patient, study, series and equipment."""
        patient = self.patient
        made = Dataset()
        made.SpecificCharacterSet = "ISO_IR 192"
        made.PatientName = f"{patient.family}^{patient.given}"
        made.PatientID = patient.mrns[0]
        made.PatientBirthDate = patient.birth_date.replace("-", "")
        made.PatientSex = patient.gender[0].upper()
        made.StudyInstanceUID = self.uid
        made.StudyDate = made.SeriesDate = made.ContentDate = self.date
        made.StudyTime = made.SeriesTime = made.ContentTime = self.time
        made.TimezoneOffsetFromUTC = "+0000"
        made.AccessionNumber = self.accession
        made.StudyID = self.accession[-4:]
        made.ReferringPhysicianName = "Placeholder^Paula^^Dr."
        made.StudyDescription = self.description
        made.SeriesInstanceUID = uid(self.key, number)
        made.SeriesNumber = number
        made.SeriesDescription = description
        made.Modality = modality
        made.BodyPartExamined = self.body_part
        made.InstitutionName = "Hospital of the Demo"
        made.Manufacturer = "Phantom Works"
        made.ManufacturerModelName = "numpy"
        made.DeviceSerialNumber = "1"
        made.SoftwareVersions = "1"
        return made


def instance(series: Dataset, sop_class: UID, number: int) -> Dataset:
    """Return the data set of an instance, with its file meta information and without pixels."""
    made = Dataset()
    made.update(series)
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = uid(series.SeriesInstanceUID, number)
    made.InstanceNumber = number
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def set_pixels(made: Dataset, pixels: Field, *, bits: int, inverse: bool = False) -> None:
    """Set the Image Pixel module (PS3.3 C.7.6.3) from unsigned grey or RGB, in frames or one."""
    is_colour = pixels.shape[-1] == 3
    made.SamplesPerPixel = 3 if is_colour else 1
    grey = "MONOCHROME1" if inverse else "MONOCHROME2"
    made.PhotometricInterpretation = "RGB" if is_colour else grey
    if is_colour:
        made.PlanarConfiguration = 0
    frames = pixels.shape[: pixels.ndim - (3 if is_colour else 2)]
    if frames:
        made.NumberOfFrames = frames[0]
    made.Rows, made.Columns = pixels.shape[len(frames) : len(frames) + 2]
    made.BitsAllocated = pixels.dtype.itemsize * 8
    made.BitsStored, made.HighBit, made.PixelRepresentation = bits, bits - 1, 0
    word = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    made.PixelData = word.tobytes() + b"\0" * (word.nbytes % 2)
    made["PixelData"].VR = "OB" if made.BitsAllocated == 8 else "OW"


def set_windows(made: Dataset, *windows: tuple[float, float, str]) -> None:
    """Set the VOI LUT module (PS3.3 C.11.2): center, width and explanation of each window."""
    made.WindowCenter = [center for center, _, _ in windows]
    made.WindowWidth = [width for _, width, _ in windows]
    made.WindowCenterWidthExplanation = [explanation for _, _, explanation in windows]
