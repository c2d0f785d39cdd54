"""The Orthanc that other tests use starts, stores, answers and goes away."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from pydicom import dcmread

from tests.data import ct_study
from tests.real import orthanc as module
from tests.real.orthanc import Orthanc, OrthancError, require_orthanc

STUDY = "1.2.826.0.1.3680043.8.498.2"


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    require_orthanc()
    with Orthanc() as running:
        yield running


@pytest.mark.orthanc
def test_what_is_loaded_is_found(orthanc: Orthanc, tmp_path: Path) -> None:
    paths = ct_study(
        tmp_path, instances=3, patient_id="P-1", study_instance_uid=STUDY, rows=32, columns=32
    )
    identifiers = {orthanc.load(path) for path in paths[:2]} | {orthanc.load(paths[2].read_bytes())}
    assert len(identifiers) == 3

    request = Request(
        f"{orthanc.dicomweb_url}/studies/{STUDY}/instances",
        headers={"Accept": "application/dicom+json"},
    )
    with urlopen(request, timeout=60) as response:
        rows = json.load(response)
    assert {row["00080018"]["Value"][0] for row in rows} == {
        dcmread(path).SOPInstanceUID for path in paths
    }
    assert {row["0020000D"]["Value"][0] for row in rows} == {STUDY}

    studies = f"{orthanc.dicomweb_url}/studies?PatientID=P-1&includefield=00201208"
    with urlopen(studies, timeout=60) as response:
        (study,) = json.load(response)
    assert study["00100020"]["Value"] == ["P-1"]
    assert study["00201208"]["Value"] == [3]


@pytest.mark.orthanc
def test_it_knows_its_versions(orthanc: Orthanc) -> None:
    assert orthanc.version[0].isdigit()
    assert orthanc.dicomweb_version[0].isdigit()


@pytest.mark.orthanc
def test_it_is_gone_afterwards_whatever_happened() -> None:
    require_orthanc()
    ports = []

    def fail_inside() -> None:
        with Orthanc() as orthanc:
            ports.append(urlsplit(orthanc.url).port or 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]), timeout=60)


@pytest.mark.orthanc
def test_a_failing_start_shows_the_log() -> None:
    require_orthanc()
    with (
        pytest.raises(OrthancError, match=r"(?s)ended with status.*log:.*HttpPort"),
        Orthanc({"HttpPort": "none"}),
    ):
        pass


def test_without_orthanc_a_test_skips_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DICOMWEB_PLUGIN", Path("/nonexistent"))
    monkeypatch.delenv("REQUIRE_REAL_SERVERS", raising=False)
    with pytest.raises(
        pytest.skip.Exception, match="apt-get install orthanc orthanc-dicomweb dcmtk"
    ):
        require_orthanc()
    monkeypatch.setenv("REQUIRE_REAL_SERVERS", "1")
    with pytest.raises(
        pytest.fail.Exception, match="apt-get install orthanc orthanc-dicomweb dcmtk"
    ):
        require_orthanc()
