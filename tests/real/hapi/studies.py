"""Studies of a wide spread, as DICOM files: study ``n`` is 2.25.n, its series 2.25.n.s, its
instances 2.25.n.s.i.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
)

from tests.dicom_instances import dataset, encoded

LONG_UID = "2.25." + "8" * 64
PATIENT, OTHER = "p1", "p2"

_CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "US": UltrasoundImageStorage,
    "CR": ComputedRadiographyImageStorage,
    "SR": EnhancedSRStorage,
    "PR": GrayscaleSoftcopyPresentationStateStorage,
    "XA": XRayAngiographicImageStorage,
    "NM": NuclearMedicineImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}


@dataclass(frozen=True)
class Study:
    """``series`` has modality and BodyPartExamined of each one; ``reason`` is SNOMED CT's."""

    number: int
    date: str
    time: str = ""
    offset: str = ""
    accession: str = ""
    description: str = ""
    series: tuple[tuple[str, str], ...] = (("CT", ""),)
    patient: str = PATIENT
    long_uid: str = ""
    reason: str = ""

    @property
    def uid(self) -> str:
        """Its StudyInstanceUID."""
        return self.long_uid or f"2.25.{self.number}"


FIRST: Sequence[Study] = (
    Study(1, "20200115", "103000", "+0100", "A-1", "CT Thorax", (("CT", "CHEST"), ("SR", ""))),
    Study(2, "20200115", "", "", "A-2", "CT Abdomen", (("CT", "ABDOMEN"), ("CT", "PELVIS"))),
    Study(3, "20200131", "233000", "-0500", "A-3", "MR Schädel", (("MR", "HEAD"),)),
    Study(4, "20200229", "000000", "+0000", "a-1", "MR Knie", (("MR", "KNEE"), ("PR", ""))),
    Study(5, "20191231", "235959", "+0100", "B,5", "US Bauch", (("US", "ABDOMEN"),)),
    Study(6, "20200101", "000000", "", "B|6", "US Bauch, Kontrolle", (("US", "Abdomen"),)),
    Study(7, "", "", "", "B$7", "", (("", ""),)),
    Study(8, "19970424", "140438", "", "", "Thorax à deux plans – Größe Ø", (("CR", "CHEST"),)),
    Study(9, "20210601", "120000.5", "+0200", "C-9", "冠状動脈", (("XA", "HEART"),)),
    Study(10, "20990101", "080000", "+1400", "10", "NM", (("NM", "WHOLEBODY"),)),
    Study(11, "20210328", "023000", "", "2.25.11", "", (("CT", ""), ("PT", ""))),
    Study(12, "20211031", "023000", "", "A-12", "CT Hand links", (("CT", "HAND"),)),
    Study(13, "20200115", "235959", "+0100", "A-13", "CT HAND", (("CT", "hand"), ("CR", "HAND"))),
    Study(14, "20200116", "", "", "A-14", "", (("MR", "HEAD"),), reason="49727002"),
    Study(15, "19000101", "000000", "", "A-15", "", (("OT", ""),), reason="23685000"),
)
"""What is there at first."""
LATER: Sequence[Study] = (
    Study(16, "20200601", "090000", "+0200", "A-1", "CT Thorax Kontrolle", (("CT", "CHEST"),)),
    Study(17, "20180717", "170000", "+0200", "A-17", "", (("MR", "SPINE"),)),
    Study(18, "20200702", "", "", "A-18", "", (("US", ""),), long_uid=LONG_UID),
    Study(19, "20200115", "110000", "+0100", "A-1", "CT Thorax", (("CT", "CHEST"),), OTHER),
)
"""What comes some seconds later."""


def write(folder: Path, studies: Sequence[Study]) -> None:
    """Write the files of ``studies``: two instances of each series."""
    for study in studies:
        for series, (modality, body_part) in enumerate(study.series, start=1):
            for instance in (1, 2):
                _write(folder, study, series, instance, modality, body_part)


def _write(
    folder: Path, study: Study, series: int, instance: int, modality: str, body_part: str
) -> None:
    uid = f"2.25.{study.number}"
    attributes: dict[str, Any] = {
        "PatientID": study.patient,
        "StudyInstanceUID": study.uid,
        "StudyDate": study.date,
        "StudyTime": study.time,
        "TimezoneOffsetFromUTC": study.offset,
        "AccessionNumber": study.accession,
        "StudyDescription": study.description,
        "SeriesInstanceUID": f"{uid}.{series}",
        "SeriesNumber": series,
        "Modality": modality,
        "BodyPartExamined": body_part,
        "SOPInstanceUID": f"{uid}.{series}.{instance}",
        "SOPClassUID": _CLASSES.get(modality, SecondaryCaptureImageStorage),
        "InstanceNumber": instance,
    }
    made = dataset(Modality="")
    for name, value in attributes.items():
        if value != "":
            setattr(made, name, value)
    if study.reason:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = study.reason, "SCT"
        made.AdmittingDiagnosesCodeSequence = [code]
    (folder / f"{uid}.{series}.{instance}.dcm").write_bytes(encoded(made))
