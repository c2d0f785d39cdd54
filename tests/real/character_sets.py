"""Files in any character set for a real Orthanc, and an EHR that knows their patients by any
number.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.data import ct_study
from tests.fakes.ehr import ScriptedEhr, active, patient

SYSTEM = "urn:mrn"
PATIENTS = {"mapping": "ehr", "identifiers": [{"system": SYSTEM}], "client": {"method": "none"}}
ENCODINGS = ("Latin1", "Utf8")


def file(
    directory: Path,
    number: int,
    character_set: bytes | None,
    patient_id: bytes,
    description: bytes = b"CT Thorax",
    series: int = 1,
) -> list[bytes]:
    """Return the files of study ``study_uid(number)``, byte for byte as given: no library changes
    the texts.
    """
    made = ct_study(
        directory / str(number),
        instances=series,
        series=series,
        patient_id="X",
        study_instance_uid=study_uid(number),
        rows=4,
        columns=4,
    )
    return [_patched(path.read_bytes(), character_set, patient_id, description) for path in made]


def _patched(
    data: bytes, character_set: bytes | None, patient_id: bytes, description: bytes
) -> bytes:
    for tag, vr, old, new in (
        (0x0008_0005, b"CS", b"ISO_IR 192", character_set),
        (0x0010_0020, b"LO", b"X", patient_id),
        (0x0008_1030, b"LO", b"CT Thorax", description),
    ):
        written = _element(tag, vr, old)
        assert data.count(written) == 1
        data = data.replace(written, b"" if new is None else _element(tag, vr, new))
    return data


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    padded = value + b" " * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(padded)) + padded


def study_uid(number: int) -> str:
    """The StudyInstanceUID of a study."""
    return f"1.2.826.0.1.3680043.8.498.12.{number}"


def ehr_of(numbers: Sequence[str]) -> ScriptedEhr:
    """Return an EHR that knows ``pt<n>`` by the n-th number, and whose ``token-<n>`` is theirs."""

    def answer(token: str) -> dict[str, Any]:
        return active("pt" + token.removeprefix("token-"), client_id=token)

    patients = {
        f"pt{at}": patient(f"pt{at}", (SYSTEM, number)) for at, number in enumerate(numbers)
    }
    return ScriptedEhr(answer=answer, patients=patients)
