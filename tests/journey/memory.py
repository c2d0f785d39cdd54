"""The resident set while a 150 MB study goes to a client at full speed and at 1 MB/s (150 s); exit
1 when it grows.

python -m tests.journey.memory
"""

import sys
import tempfile
from pathlib import Path

from sidecar.demo.people import PATIENTS
from tests.data import ct_study
from tests.journey.test_process import ALLOWED_GROWTH, retrieve_watching_memory
from tests.journey.world import LARGE_STUDY, LARGE_STUDY_PATIENT, make_world
from tests.real.orthanc import Orthanc, find_orthanc


def main() -> None:
    """Measure in front of a real Orthanc when there is one, else in front of the embedded archive."""
    mrn = next(one.mrns[0] for one in PATIENTS if one.id == LARGE_STUDY_PATIENT)
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
                f"{size} bytes at {speed or 'full'} MB/s: resident set grew by {growth / 2**20:.1f} MB",
                flush=True,
            )
            if growth > ALLOWED_GROWTH:
                sys.exit(f"more than the {ALLOWED_GROWTH / 2**20:.0f} MB allowed")


if __name__ == "__main__":
    main()
