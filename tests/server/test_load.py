"""The configuration, read in a child for the supervisor."""

import socket
from pathlib import Path

import pytest

from sidecar.server.child import Channel
from sidecar.server.configuration import Configuration
from sidecar.server.load import load

SITE = """
ehr: {fhir_url: "https://ehr.example.org/fhir"}
tokens: {client: {method: client_secret_basic, client_id: us, client_secret_file: FOLDER/secret}}
pacs: {url: "http://orthanc:8042/dicom-web"}
fhir: {catalog: {store: sqlite, file: FOLDER/catalog}}
server: {workers: WORKERS, port: 81, admin_port: 82, drain_seconds: 7, reload_seconds: 3}
"""


def loaded(folder: Path, text: str) -> dict[str, object]:
    file = folder / "site.yaml"
    file.write_text(text)
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    load([file], Channel(theirs))
    ((message,), _) = channel.receive()
    channel.close()
    theirs.close()
    return dict(message)


@pytest.mark.parametrize(("workers", "count"), [("3", 3), ("auto", 5)])
def test_what_the_supervisor_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, count: int
) -> None:
    monkeypatch.setattr("sidecar.server.load.granted_cpus", lambda: 5)
    (tmp_path / "secret").write_text("s3cret")
    text = SITE.replace("WORKERS", workers).replace("FOLDER", str(tmp_path))
    found = Configuration.decode(str(loaded(tmp_path, text)["configuration"]))
    server = found.settings.server
    assert (server.port, server.admin_port, found.workers) == (81, 82, count)
    assert (server.drain_seconds, server.reload_seconds, found.settings.log.level) == (7, 3, "INFO")
    # The catalog's file is one that we write.
    assert found.files == [str(tmp_path / "secret")]
    assert "s3cret" not in str(loaded(tmp_path, text))


def test_problems(tmp_path: Path) -> None:
    found = loaded(tmp_path, "pacs: {url: nowhere}")
    assert isinstance(found["problems"], list)
    assert any("pacs.url" in problem for problem in found["problems"])
