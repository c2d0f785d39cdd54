"""Each kind of file as our walk, pydicom and dcmdump read it: what passes names one patient, whoever reads it (SIA-42)."""

import ast
import io
import shutil
import subprocess
import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sidecar.pacs
from sidecar.access.identity import PatientIdentifier
from sidecar.pacs.elements import Unreadable
from sidecar.pacs.header import HeaderReader, InstanceHeader
from sidecar.pacs.layouts import Layouts
from sidecar.pacs.walk import LIMIT_BYTES
from tests.pacs.file_kinds import EVIL, KINDS, NAMES, OWN, PATIENT_ID, Kind
from tests.pacs.test_two_readings import explicit

RULES_PAGE = Path(__file__).parents[2] / "docs" / "files.md"
PASSING = [name for name, kind in KINDS.items() if not kind.rule]
REFUSED = [name for name, kind in KINDS.items() if kind.rule]
SMALL = 2**16
SMALL_PASSING = [name for name in PASSING if len(b"".join(KINDS[name].file.pieces(NAMES[name]))) < SMALL]


def written(name: str) -> bytes:
    file = KINDS[name].file
    return file.data(file.pieces(NAMES[name]))


def read(data: bytes, step: int, layouts: Layouts | None = None) -> InstanceHeader:
    reader = HeaderReader(layouts)
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        if not (start and reader.skips(len(piece))):
            reader.feed(piece)
    return reader.end()


def by_pydicom(data: bytes) -> str:
    """The PatientID that pydicom finds, before the pixels if it cannot read all; empty: none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for is_head in (False, True):
            try:
                image = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=is_head)
            except Exception:  # noqa: BLE001, S112: it raises whatever its parts raise.
                continue
            if found := str(image.get("PatientID") or "").strip(" \0"):
                return found
    return ""


def by_dcmdump(data: bytes, directory: Path) -> str:
    """The PatientID that dcmdump finds outside of sequences, empty: none."""
    file = directory / "image.dcm"
    file.write_bytes(data)
    found = subprocess.run(
        ["dcmdump", "+L", "+E", "+uc", "+p", "+P", "0010,0020", str(file)],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    lines = found.stdout.decode("latin-1").splitlines()
    values = [line.partition("#")[0].partition(")")[2][3:].strip() for line in lines if line.startswith("(0010,0020)")]
    (value,) = [value[1:-1].strip(" \0") if value.startswith("[") else value for value in values] or [""]
    return "" if value == "(no value available)" else value


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("step", [1, 997, 2**20])
def test_it_passes_or_is_refused_by_its_rule(name: str, step: int) -> None:
    data, kind = written(name), KINDS[name]
    if len(data) > SMALL:
        step = max(step, 2**14)
    if kind.rule:
        with pytest.raises(Unreadable) as refused:
            read(data, step)
        assert refused.value.rule == kind.rule
    else:
        names = NAMES[name]
        header = read(data, step)
        assert header.patient.patient_id == OWN
        assert (header.study, header.series, header.instance) == (names.study, names.series, names.instance)


@pytest.mark.parametrize("name", KINDS)
def test_pydicom_as_a_witness(name: str) -> None:
    assert by_pydicom(written(name)) == KINDS[name].pydicom


@pytest.mark.parametrize("name", KINDS)
def test_dcmdump_as_a_witness(name: str, tmp_path: Path) -> None:
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmdump is not installed: apt-get install dcmtk")
    assert by_dcmdump(written(name), tmp_path) == KINDS[name].dcmdump
