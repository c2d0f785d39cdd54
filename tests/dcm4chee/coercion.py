"""dcm4chee's rule SupplementIssuerOfPatientID: what it gives out has an issuer, whatever was
stored.
"""

import zlib
from pathlib import Path

from pydicom import Dataset, dcmread

HOSPITAL = "HOSPITAL"
"""The issuer of a site that has replaced the default rule (docs/dcm4chee.md)."""


def supplemented(folder: Path, into: Path, *, issuer: str | None) -> Path:
    """Write the DICOM files of ``folder`` into ``into`` as the archive gives them out; return it.

    A data set without IssuerOfPatientID gets ``issuer``, or the default rule's (``None``). Others
    are copied. All answers of the archive are equal to each other, so the emulation may read these
    files as if they were stored.
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
    """Return ``DCM4CHEE.{PatientName,hash}.{PatientBirthDate,hash}``;
    the hash is not dcm4chee's.
    """
    texts = [str(dataset.get(keyword, "")) for keyword in ("PatientName", "PatientBirthDate")]
    return "DCM4CHEE." + ".".join(f"{zlib.crc32(text.encode()):08X}" for text in texts)
