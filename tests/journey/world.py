"""The whole world of a journey: the demo's EHR, an archive (embedded, emulated, or a real Orthanc),
the sidecar.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import requests
from aiohttp import web

from sidecar.demo.archive.app import create_archive
from sidecar.demo.configuration import (
    BACKEND_CLIENT_ID,
    INTROSPECTION_CLIENT_ID,
    KEY_ID,
    make_key,
)
from sidecar.demo.ehr.app import STORE, create_ehr
from sidecar.demo.people import MRN_SYSTEM, WITH_TEST_FILES
from tests.background import Background
from tests.dcm4chee.archive import create_dcm4chee
from tests.dcm4chee.behaviour import ROOT as DCM4CHEE_ROOT
from tests.dcm4chee.behaviour import Behaviour, Mode
from tests.dcm4chee.coercion import HOSPITAL, supplemented
from tests.real.orthanc import Orthanc
from tests.sidecar_process import SidecarProcess, free_port

SECRET = "s3cret & odd:chars%"
LARGE_STUDY = "1.2.826.0.1.3680043.8.498.1.300"
LARGE_STUDY_PATIENT = "archibald"
SCOPE = "launch/patient patient/ImagingStudy.rs"


@dataclass(frozen=True)
class Instance:
    """One file of the archive: its UIDs, and the SHA-256 of its bytes."""

    patient_id: str
    study: str
    series: str
    uid: str
    sha256: str
    modality: str
    has_pixels: bool


@dataclass
class World:
    """What a test needs: the sidecar, tokens of the EHR,
    and the truth on what the archive holds.
    """

    sidecar: SidecarProcess
    ehr: web.Application
    ehr_url: str
    background: Background
    instances: list[Instance]
    orthanc: Orthanc | None

    def token(self, patient: str | None, scope: str = SCOPE, lifetime_seconds: int = 3_600) -> str:
        """A new access token of the EHR."""
        store = self.ehr[STORE]
        return self.background.call(
            lambda: store.issue(
                patient=patient, scope=scope, client_id="app", lifetime_seconds=lifetime_seconds
            )
        )

    def session(self, patient: str, scope: str = SCOPE) -> requests.Session:
        """A client session with a bearer token."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.token(patient, scope)}"
        return session

    def of(self, patient: str) -> list[Instance]:
        """All instances of a patient (FHIR id), under whichever PatientID."""
        mrns = next(one.mrns for one in WITH_TEST_FILES if one.id == patient)
        return [instance for instance in self.instances if instance.patient_id in mrns]

    def root(self, patient: str) -> str:
        """The patient's DICOMweb root (SIA-32)."""
        return f"{self.sidecar.fhir}/Patient/{patient}/$wado-rs"


def read_instances(directory: Path) -> list[Instance]:
    """Read the truth from the files themselves."""
    found = []
    for file in sorted(directory.rglob("*.dcm")):
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        tags = pydicom.dcmread(file, specific_tags=["PixelData", "Rows"], defer_size=1_024)
        found.append(
            Instance(
                str(dataset.PatientID),
                str(dataset.StudyInstanceUID),
                str(dataset.SeriesInstanceUID),
                str(dataset.SOPInstanceUID),
                hashlib.sha256(file.read_bytes()).hexdigest(),
                str(dataset.get("Modality", "")),
                "PixelData" in tags,
            )
        )
    return found


def configuration(ehr_url: str, archive_url: str, key_file: Path, dialect: str) -> dict[str, Any]:
    """What a hospital engineer writes."""
    return {
        "ehr": {"fhir_url": ehr_url + "/fhir"},
        "tokens": {
            "client": {
                "method": "client_secret_basic",
                "client_id": INTROSPECTION_CLIENT_ID,
                "client_secret": SECRET,
            }
        },
        "patients": {
            "mapping": "ehr",
            "identifiers": [{"system": MRN_SYSTEM}],
            "client": {
                "method": "backend_services",
                "client_id": BACKEND_CLIENT_ID,
                "private_key_file": str(key_file),
                "key_id": KEY_ID,
                "algorithm": "ES384",
                "scope": "system/Patient.rs",
            },
        },
        "pacs": {"url": archive_url, "dialect": dialect},
        "server": {"wado_uri": True},
    }


@contextlib.contextmanager
def make_world(
    directory: Path,
    files: Path,
    orthanc: Orthanc | None,
    changes: Mapping[str, Any] | None = None,
    *,
    dcm4chee: Mode | None = None,
    embedded: Callable[[Path], web.Application] = create_archive,
) -> Iterator[World]:
    """Start everything in front of ``orthanc``, or over ``files`` of an emulated dcm4chee or the
    embedded archive, which ``embedded`` makes.

    A dcm4chee as it was measured supplements a fixed issuer, as docs/dcm4chee.md says.
    """
    if dcm4chee == "measured":
        files = supplemented(files, directory / "supplemented", issuer=HOSPITAL)
    ehr_port, sidecar_port = free_port(), free_port()
    ehr_url = f"http://127.0.0.1:{ehr_port}"
    key_file = directory / "key.pem"
    ehr = create_ehr(
        base_url=ehr_url,
        imaging_fhir_url=f"http://127.0.0.1:{sidecar_port}/fhir",
        introspection_client_id=INTROSPECTION_CLIENT_ID,
        introspection_client_secret=SECRET,
        backend_client_id=BACKEND_CLIENT_ID,
        backend_public_jwks=make_key(key_file),
    )
    with Background() as background:
        background.serve(ehr, ehr_port)
        if orthanc is not None:
            archive_url, dialect = orthanc.dicomweb_url, "orthanc"
        elif dcm4chee is not None:
            archive = create_dcm4chee(files, Behaviour(dcm4chee))
            archive_url = f"http://127.0.0.1:{background.serve(archive)}{DCM4CHEE_ROOT}"
            dialect = "dcm4chee"
        else:
            archive_url = f"http://127.0.0.1:{background.serve(embedded(files))}/dicom-web"
            dialect = "generic"
        document = configuration(ehr_url, archive_url, key_file, dialect)
        if dcm4chee == "measured":
            document["patients"]["identifiers"][0]["issuer"] = HOSPITAL
        document |= changes or {}
        with SidecarProcess(directory, document, port=sidecar_port) as sidecar:
            yield World(sidecar, ehr, ehr_url, background, read_instances(files), orthanc)
