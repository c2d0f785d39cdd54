"""Parts of other patients, and the failures that they are counted as."""

from typing import Any

from sidecar.bootstrap.build import Sidecar
from tests.fakes.archive import SERIES, STUDY
from tests.fakes.retrievals import PIXELS, part

FOREIGN = {
    "another patient": part("somebody-else"),
    "another study": part(study="1.2.840.2"),
    "no patient": part(""),
    "unreadable": b"--abc\r\nContent-Type: application/dicom\r\n\r\n" + PIXELS + b"\r\n",
}


def failures(sidecar: Sidecar, what: str) -> float:
    return (
        sidecar.metrics.registry.get_sample_value(
            "smart_imaging_verification_failures_total", {"what": what}
        )
        or 0.0
    )


def metadata_row(patient: str, number: int) -> dict[str, Any]:
    return {
        "00100020": {"vr": "LO", "Value": [patient]},
        "0020000D": {"vr": "UI", "Value": [STUDY]},
        "00080018": {"vr": "UI", "Value": [f"{SERIES}.{number}"]},
        "00104000": {"vr": "LT", "Value": ["x" * 1_000]},
    }
