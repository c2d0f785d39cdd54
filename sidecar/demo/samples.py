"""The demo's images: copies of the invented DICOM files that pydicom has for its own tests.

Only files inside the installed package are read. pydicom's own file finders would download missing
files.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRBigEndian

_DATA = Path(pydicom.__file__).parent / "data"
_FOLDERS = ("test_files", "charset_files")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

# Files that are wrong on purpose, to test a reader with.
_DAMAGED = frozenset(
    {
        "badVR.dcm",  # NumberOfFrames is "1A"
        "MR_truncated.dcm",  # ends inside its pixels
        "rtplan_truncated.dcm",  # ends inside a sequence
        "JPEG2000-embedded-sequence-delimiter.dcm",  # a delimiter's bytes inside the image
        "J2K_pixelrep_mismatch.dcm",  # the compressed image contradicts the data set on its sign
        "SC_rgb_jpeg.dcm",  # written with implicit VR, though its transfer syntax is explicit
    }
)


def fill(folder: Path) -> None:
    """Copy pydicom's bundled files into ``folder`` as ``<SOPInstanceUID>.dcm``, one for each UID.

    Files that no archive could store or no viewer could show are left out:

    - files that are not DICOM, or have no file meta information (PS3.10 7.1), and DICOMDIRs, which
      are no instances;
    - data sets without PatientID, SOPClassUID, or a valid study, series or instance UID;
    - Explicit VR Big Endian, which is retired;
    - files that are wrong on purpose;
    - other encodings of the same instance. The file with the shortest name is copied, which is not
      compressed (``MR_small.dcm`` before ``MR_small_RLE.dcm``).

    Raises ``OSError`` when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copied: set[str] = set()
    for source in sorted(_bundled(), key=lambda path: (len(path.name), str(path))):
        uid = _instance_uid(source)
        if uid is not None and uid not in copied:
            copied.add(uid)
            shutil.copyfile(source, folder / f"{uid}.dcm")


def _bundled() -> Iterator[Path]:
    for name in _FOLDERS:
        for path in (_DATA / name).rglob("*"):
            if path.is_file() and path.name not in _DAMAGED:
                yield path


def _instance_uid(path: Path) -> str | None:
    """Return the SOPInstanceUID of a file that an archive can store, else ``None``."""
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", *_UIDS])
    except InvalidDicomError:
        return None
    return str(dataset.SOPInstanceUID) if _can_be_filed(dataset) else None


def _can_be_filed(dataset: FileDataset) -> bool:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    return (
        syntax is not None
        and syntax != ExplicitVRBigEndian
        and bool(str(dataset.get("PatientID", "")).strip())
        and all(UID(str(dataset.get(keyword, ""))).is_valid for keyword in _UIDS)
    )
