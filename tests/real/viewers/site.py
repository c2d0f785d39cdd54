"""What viewers look at: the demo, or a real Orthanc behind the sidecar, with the same images."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from sidecar.demo.people import PATIENTS
from tests.demo.demo_process import running_demo
from tests.journey.world import make_world
from tests.real.orthanc import Orthanc

OWNER, OTHER = PATIENTS[0], PATIENTS[-1]
COMPRESSED = "compressed"
"""Name of the compressed file (RLE), which is ``OWNER``'s, too."""
SCOPE = "launch/patient patient/ImagingStudy.rs"


@dataclass(frozen=True)
class Site:
    """Addresses, a token of ``OWNER``, and the files by the patient's id or by name."""

    name: str
    sidecar: str
    ehr: str
    token: str
    files: dict[str, Path]

    def study(self, name: str) -> str:
        """Return the UID of a file's study."""
        return str(pydicom.dcmread(self.files[name], stop_before_pixels=True).StudyInstanceUID)


def write_files(folder: Path) -> dict[str, Path]:
    """Write a study of one image for each patient, and a compressed one of ``OWNER``."""
    folder.mkdir()
    found: dict[str, Path] = {}
    for name, patient, source, center, width in (
        (OWNER.id, OWNER, "CT_small.dcm", 50, 1000),
        (OTHER.id, OTHER, "CT_small.dcm", 50, 1000),
        (COMPRESSED, OWNER, "MR_small_RLE.dcm", 600, 1600),
    ):
        one = pydicom.dcmread(str(get_testdata_file(source, download=False)))
        one.PatientID, one.PatientName = patient.mrns[0], f"{patient.family}^{patient.given}"
        uid = UID(f"1.2.826.0.1.3680043.8.498.19.{len(found) + 1}")
        one.StudyInstanceUID, one.SeriesInstanceUID = uid, UID(f"{uid}.1")
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = UID(f"{uid}.1.1")
        one.WindowCenter, one.WindowWidth = center, width
        found[name] = folder / f"{name}.dcm"
        one.save_as(found[name])
    return found


@contextlib.contextmanager
def demo_site(folder: Path) -> Iterator[Site]:
    """Run ``smart-imaging-sidecar demo`` over the files."""
    files = write_files(folder / "files")
    with running_demo("--data", str(folder / "files")) as demo:
        yield Site("demo", demo.base, demo.ehr, demo.token, files)


@contextlib.contextmanager
def orthanc_site(folder: Path) -> Iterator[Site]:
    """Run a sidecar before a real Orthanc that has the files."""
    files = write_files(folder / "files")
    with Orthanc() as orthanc:
        orthanc.load_folder(folder / "files")
        with make_world(folder, folder / "files", orthanc) as world:
            token = world.token(OWNER.id, SCOPE)
            yield Site("orthanc", world.sidecar.url, world.ehr_url, token, files)
