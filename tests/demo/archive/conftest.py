"""The demo's archive over a folder of pydicom's files, once for a file of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dicomweb_client.web import DICOMwebClient

from sidecar.demo.samples import fill
from tests.data import ct_study
from tests.demo.archive.retrieval import MADE_STUDY
from tests.demo.archive_server import archive_over, instance_url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("images")
    fill(made)
    ct_study(
        made,
        instances=5,
        series=2,
        patient_id="7",
        study_instance_uid=MADE_STUDY,
        rows=8,
        columns=8,
    )
    return made


@pytest.fixture(scope="module")
def root(folder: Path) -> Iterator[str]:
    with archive_over(folder) as url:
        yield url


@pytest.fixture(scope="module")
def client(root: str) -> DICOMwebClient:
    return DICOMwebClient(root)


@pytest.fixture(scope="module")
def rle(root: str, client: DICOMwebClient) -> str:
    """A color image compressed with RLE."""
    return instance_url(
        root,
        client,
        SOPInstanceUID="1.2.826.0.1.3680043.8.498.49043964482360854182530167603505525116",
    )


@pytest.fixture(scope="module")
def frames(root: str, client: DICOMwebClient) -> str:
    """30 frames in JPEG."""
    return instance_url(root, client, PatientID="204")


@pytest.fixture(scope="module")
def plan(root: str, client: DICOMwebClient) -> str:
    """A radiotherapy plan, which has no image."""
    return instance_url(root, client, Modality="RTPLAN")
