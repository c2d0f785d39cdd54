"""A study as a ZIP in front of each archive, opened by what people have: Python, unzip, dcmtk
(SIA-40).
"""

import hashlib
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.installed import installed
from tests.journey.conftest import ONE_OF_OURS
from tests.journey.memory import ALLOWED_GROWTH, retrieve_watching_memory
from tests.journey.world import LARGE_STUDY, LARGE_STUDY_PATIENT, World

ZIP = {"Accept": "application/zip"}


def tool(name: str, package: str) -> str:
    """The path of a program."""
    return installed(shutil.which(name), f"no {name}: apt-get install {package}")


def save(world: World, patient: str, path: str, file: Path) -> None:
    """Save a study or series as a ZIP."""
    response = world.session(patient).get(world.root(patient) + path, headers=ZIP, timeout=60)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/zip")
    file.write_bytes(response.content)


def hashes(file: Path) -> list[str]:
    with ZipFile(file) as opened:
        return sorted(hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist())


def test_every_study_and_series_has_its_files_unchanged(world: World, tmp_path: Path) -> None:
    """By their SHA-256."""
    file = tmp_path / "some.zip"
    for patient in ("peter", "robin"):
        instances = world.of(patient)
        for study in {one.study for one in instances}:
            save(world, patient, f"/studies/{study}", file)
            assert hashes(file) == sorted(one.sha256 for one in instances if one.study == study)
        for study, series in {(one.study, one.series) for one in instances}:
            save(world, patient, f"/studies/{study}/series/{series}", file)
            assert hashes(file) == sorted(one.sha256 for one in instances if one.series == series)


def test_unzip_and_dcmtk_read_it(world: World, tmp_path: Path) -> None:
    unzip, dcmdump = tool("unzip", "unzip"), tool("dcmdump", "dcmtk")
    for study in {one.study for one in world.of("peter")}:
        file, folder = tmp_path / f"{study}.zip", tmp_path / study
        save(world, "peter", f"/studies/{study}", file)
        assert subprocess.run([unzip, "-tq", file], check=True, capture_output=True, timeout=60)
        assert subprocess.run(
            [unzip, "-q", file, "-d", folder], check=True, capture_output=True, timeout=60
        )
        saved = sorted(folder.rglob("*.dcm"))
        assert len(saved) == sum(one.study == study for one in world.of("peter"))
        done = subprocess.run(
            [dcmdump, "+P", "StudyInstanceUID", *saved],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.count(f"[{study}]") == len(saved)


@pytest.mark.parametrize("world", ONE_OF_OURS, indirect=True)
def test_memory_is_bounded(world: World, tmp_path: Path) -> None:
    """As for the multipart of the same 150 MB."""
    session = world.session(LARGE_STUDY_PATIENT)
    url = f"{world.root(LARGE_STUDY_PATIENT)}/studies/{LARGE_STUDY}"
    session.get(f"{world.sidecar.fhir}/ImagingStudy", timeout=60)  # Warm: imports, pools, caches.
    growth, size, _ = retrieve_watching_memory(world, session, url, None, ZIP)
    print(f"\nresident set grew by {growth / 2**20:.1f} MB over {size} bytes")
    assert size > 150_000_000
    assert growth < ALLOWED_GROWTH


def test_somebody_elses_is_not_there(world: World) -> None:
    """The same answer as for one that does not exist (SIA-45)."""
    session, answers = world.session("peter"), []
    for study in (world.of("robin")[0].study, "1.2.826.0.1.3680043.8.498.999"):
        response = session.get(f"{world.root('peter')}/studies/{study}", headers=ZIP, timeout=60)
        answers.append((response.status_code, response.content, sorted(response.headers)))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
