"""The resident set while a 150 MB study goes to a client at full speed and at 1 MB/s (150 s); exit
1 when it grows.

python -m tests.journey.memory
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import requests

from sidecar.demo.people import WITH_TEST_FILES
from tests.data import ct_study
from tests.journey.world import LARGE_STUDY, LARGE_STUDY_PATIENT, World, make_world
from tests.real.orthanc import Orthanc, find_orthanc

STORED = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
ALLOWED_GROWTH = 60 * 2**20


def main() -> None:
    """Measure in front of a real Orthanc when there is one,
    else in front of the embedded archive.
    """
    mrn = next(one.mrns[0] for one in WITH_TEST_FILES if one.id == LARGE_STUDY_PATIENT)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch, "images")
        paths = ct_study(files, instances=300, patient_id=mrn, study_instance_uid=LARGE_STUDY)
        if find_orthanc() is None:
            measure(Path(scratch), files, None)
            return
        with Orthanc() as orthanc:
            for path in paths:
                orthanc.load(path)
            measure(Path(scratch), files, orthanc)


def measure(scratch: Path, files: Path, orthanc: Orthanc | None) -> None:
    """Print the growth at full speed and at 1 MB/s."""
    with make_world(scratch, files, orthanc) as world:
        session = world.session(LARGE_STUDY_PATIENT)
        url = f"{world.root(LARGE_STUDY_PATIENT)}/studies/{LARGE_STUDY}"
        session.get(f"{world.sidecar.fhir}/ImagingStudy", timeout=60)
        for speed in (None, 1.0):
            growth, size, _ = retrieve_watching_memory(world, session, url, speed)
            print(
                f"{size} bytes at {speed or 'full'} MB/s: "
                f"resident set grew by {growth / 2**20:.1f} MB",
                flush=True,
            )
            if growth > ALLOWED_GROWTH:
                sys.exit(f"more than the {ALLOWED_GROWTH / 2**20:.0f} MB allowed")


def retrieve_watching_memory(
    world: World,
    session: requests.Session,
    url: str,
    megabytes_per_second: float | None,
    headers: Mapping[str, str] = STORED,
) -> tuple[int, int, str]:
    """Return the growth of the resident set in bytes, the body's size, and its SHA-256."""
    idle = peak = world.sidecar.resident_bytes()
    size, digest, started = 0, hashlib.sha256(), time.monotonic()
    with session.get(url, headers=headers, stream=True, timeout=300) as response:
        assert response.status_code == 200
        for chunk in response.iter_content(2**18):
            size += len(chunk)
            digest.update(chunk)
            peak = max(peak, world.sidecar.resident_bytes())
            if megabytes_per_second is not None:
                ahead = size / (megabytes_per_second * 1e6) - (time.monotonic() - started)
                time.sleep(max(0.0, ahead))
    return peak - idle, size, digest.hexdigest()


if __name__ == "__main__":
    main()
