"""dcm4chee's rule SupplementIssuerOfPatientID: what it gives out is not what was stored, but has an issuer."""

import zlib
from pathlib import Path

from pydicom import Dataset, dcmread

HOSPITAL = "HOSPITAL"
"""The issuer of a site that has replaced the default rule (docs/dcm4chee.md)."""


def supplemented(folder: Path, into: Path, *, issuer: str | None) -> Path:
    """Write the DICOM files of ``folder`` into ``into`` as the archive gives them out; returns ``into``.

    A data set without IssuerOfPatientID gets ``issuer``, or the default rule's (``None``). Others are copied. All
    answers of the archive are equal to each other, so the emulation may read these files as if they were stored.
    """
    for file in sorted(folder.rglob("*.dcm")):
        target = into / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset = dcmread(file)
        if dataset.get("IssuerOfPatientID"):
            target.write_bytes(file.read_bytes())
            continue
        dataset.IssuerOfPatientID = issuer or made_up_issuer(dataset)
        dataset.save_as(target)
    return into


def made_up_issuer(dataset: Dataset) -> str:
    """``DCM4CHEE.{PatientName,hash}.{PatientBirthDate,hash}``; the hash's form is not dcm4chee's."""
    name, birth_date = (str(dataset.get(keyword, "")) for keyword in ("PatientName", "PatientBirthDate"))
    return f"DCM4CHEE.{zlib.crc32(name.encode()):08X}.{zlib.crc32(birth_date.encode()):08X}"
