"""Small DICOM instances in memory, in any encoding."""

import io

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.4", "1.2.3.4.5"


def dataset(**attributes: object) -> Dataset:
    """A small instance of patient P-1; ``attributes`` by keyword replace what it has."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, INSTANCE
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, SERIES
    made.PatientID, made.PatientName, made.Modality = "P-1", "Doe^Jane", "CT"
    made.Rows = 1
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def encoded(made: Dataset, syntax: str = ExplicitVRLittleEndian, *, preamble: bool = True) -> bytes:
    """The instance as a file in a transfer syntax."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        CTImageStorage,
        UID(INSTANCE),
    )
    buffer = io.BytesIO()
    dcmwrite(buffer, made, enforce_file_format=True)
    written = buffer.getvalue()
    return written if preamble else written[132:]
