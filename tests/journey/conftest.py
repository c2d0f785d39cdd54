"""The journey runs in front of the embedded archive, an emulated dcm4chee, and a real Orthanc where
there is one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.demo.people import WITH_TEST_FILES
from sidecar.demo.samples import fill
from tests.data import ct_study
from tests.dcm4chee.behaviour import Mode
from tests.journey.world import LARGE_STUDY, LARGE_STUDY_PATIENT, World, make_world
from tests.real.orthanc import Orthanc, require_orthanc

ARCHIVES = [
    "embedded",
    "dcm4chee",
    pytest.param("dcm4chee-documented", marks=pytest.mark.exhaustive),
    pytest.param("orthanc", marks=pytest.mark.orthanc),
]
ONE_OF_OURS = [
    "embedded",
    pytest.param("dcm4chee", marks=pytest.mark.exhaustive),
    pytest.param("dcm4chee-documented", marks=pytest.mark.exhaustive),
    pytest.param("orthanc", marks=pytest.mark.orthanc),
]
"""Of `make test` one archive alone, where its dialect makes no difference."""


def dcm4chee_mode(archive: str) -> Mode | None:
    """Which dcm4chee an archive of ``ARCHIVES`` is: as it was measured, or as it is documented."""
    modes: dict[str, Mode] = {"dcm4chee": "measured", "dcm4chee-documented": "documented"}
    return modes.get(archive)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pydicom's files and a CT of 300 instances, 150 MB."""
    directory = tmp_path_factory.mktemp("images")
    fill(directory)
    mrn = next(one.mrns[0] for one in WITH_TEST_FILES if one.id == LARGE_STUDY_PATIENT)
    ct_study(
        directory / "large", instances=300, patient_id=mrn, study_instance_uid=LARGE_STUDY, series=2
    )
    return directory


@pytest.fixture(scope="session")
def orthanc(files: Path) -> Iterator[Orthanc]:
    """A real Orthanc, loaded; its version is printed at the end of the run."""
    require_orthanc()
    with Orthanc() as running:
        running.load_folder(files)
        yield running


@pytest.fixture(scope="session", params=ARCHIVES)
def world(
    request: pytest.FixtureRequest, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The world in front of each archive."""
    running = request.getfixturevalue("orthanc") if request.param == "orthanc" else None
    with make_world(
        tmp_path_factory.mktemp("world"), files, running, dcm4chee=dcm4chee_mode(request.param)
    ) as made:
        yield made
