"""Store DICOM files in the Orthanc of compose.yaml: ``load [--patient-id ID] [FILE|FOLDER ...]``.

Without files it stores the small CT image that pydicom brings along, as one of patient p1, who is
the realm's user amy.
"""

import argparse
import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import pydicom
from pydicom.errors import InvalidDicomError

EXAMPLE = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
OPENER = build_opener(ProxyHandler({}))


def files(paths: list[Path]) -> Iterator[Path]:
    """Return each file, with those in folders."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def contents(path: Path, patient_id: str | None) -> bytes:
    """Return the file's bytes, with another PatientID if one is given."""
    if patient_id is None:
        return path.read_bytes()
    dataset = pydicom.dcmread(path)
    dataset.PatientID = patient_id
    written = io.BytesIO()
    dataset.save_as(written)
    return written.getvalue()


def main() -> int:
    """Store the files, and print a line for each. Return 1 if one could not be stored."""
    parser = argparse.ArgumentParser(description="Store DICOM files in Orthanc.")
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--patient-id", help="store them as this patient's")
    parser.add_argument("--url", default="http://orthanc:8042")
    parser.add_argument("--password-file", type=Path, default=Path("/run/secrets/orthanc_password"))
    arguments = parser.parse_args()
    credentials = base64.b64encode(
        f"sidecar:{arguments.password_file.read_text().strip()}".encode()
    ).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/dicom"}
    failed = 0
    for path in files(arguments.paths or [EXAMPLE]):
        patient_id = arguments.patient_id or (None if arguments.paths else "p1")
        try:
            body = contents(path, patient_id)
            with OPENER.open(
                Request(f"{arguments.url}/instances", body, headers), timeout=60
            ) as answer:
                print(f"{path}: {json.load(answer)['Status']}")
        except (OSError, InvalidDicomError) as problem:
            print(f"{path}: {problem}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
