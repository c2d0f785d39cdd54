"""The trial's parts without an engine: real Orthanc, real Keycloak, the sidecar, with the files of
``config/compose``.

Host names are replaced by loopback addresses, paths in containers by paths here; all else is as it
stands there.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import web

from tests.background import Background
from tests.command import environment, serving
from tests.compose.deployment import (
    COMPOSE,
    SERVICES,
    mounts,
    prepared,
    secrets,
    sidecar_file,
    smart_configuration,
)
from tests.fakes.ehr import SCOPE, ScriptedEhr
from tests.installed import installed
from tests.real.authorization_servers import KEYCLOAK, NO_KEYCLOAK, Keycloak
from tests.real.orthanc import DICOMWEB_PLUGIN, require_orthanc
from tests.sidecar_process import free_port
from tests.waiting import WAIT_SECONDS, wait_until

AUDIENCE = "https://imaging.hospital.example.org/fhir"


@pytest.fixture(scope="module")
def secrets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``prepare`` makes them."""
    return prepared(tmp_path_factory.mktemp("compose"))


@contextlib.contextmanager
def orthanc(folder: Path, secrets_folder: Path) -> Iterator[str]:
    """Orthanc as the container starts it: with a folder of two files, one of them a secret; yields
    its address.
    """
    binary, port, configuration = require_orthanc(), free_port(), folder / "orthanc"
    configuration.mkdir()
    for target, source in mounts("orthanc").items():
        settings: dict[str, Any] = json.loads(source.read_text())
        (configuration / Path(target).name).write_text(
            json.dumps(
                settings
                | {
                    "StorageDirectory": str(folder / "db"),
                    "IndexDirectory": str(folder / "db"),
                    "HttpPort": port,
                    "Plugins": [str(DICOMWEB_PLUGIN)],
                    "RemoteAccessAllowed": False,
                }
            )
        )
    for target, name in secrets("orthanc").items():
        (configuration / Path(target).name).write_text((secrets_folder / name).read_text())
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, str(configuration)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        check = SERVICES["orthanc"]["healthcheck"]["test"]
        assert check[:3] == ["CMD", "bash", "-c"]
        script = check[3].replace("/8042", f"/{port}")

        def is_healthy() -> bool:
            assert process.poll() is None, (folder / "orthanc.log").read_text()
            return (
                subprocess.run(
                    ["bash", "-c", script], stderr=subprocess.DEVNULL, check=False
                ).returncode
                == 0
            )

        wait_until("Orthanc is healthy", is_healthy, explain=(folder / "orthanc.log").read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def tool(name: str, *arguments: str) -> str:
    """What a tool of the folder prints; ``arguments`` name what is elsewhere than in its
    container.
    """
    script = COMPOSE / "tools" / Path(SERVICES[name]["entrypoint"][1]).name
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def search_and_retrieve(url: str, token: str) -> None:
    """As README.md has it: the patient's studies, one of them, and nothing of anybody else."""
    headers = {"Authorization": f"Bearer {token}"}
    found = requests.get(f"{url}/fhir/ImagingStudy?patient=p1", headers=headers, timeout=60)
    assert found.status_code == 200, found.text
    bundle = found.json()
    assert bundle["total"] == 1
    (uid,) = (
        one["value"]
        for one in bundle["entry"][0]["resource"]["identifier"]
        if one["system"] == "urn:dicom:uid"
    )
    study = f"{url}/fhir/Patient/p1/$wado-rs/studies/{uid.removeprefix('urn:oid:')}"
    retrieved = requests.get(
        study,
        headers=headers | {"Accept": 'multipart/related; type="application/dicom"'},
        timeout=60,
    )
    assert retrieved.status_code == 200, retrieved.text
    assert b"DICM" in retrieved.content
    assert requests.get(study, timeout=60).status_code == 401
    assert (
        requests.get(f"{url}/fhir/ImagingStudy?patient=p2", headers=headers, timeout=60).status_code
        == 403
    )


def loaded(orthanc_url: str, secrets_folder: Path) -> None:
    """The example image is stored; and nobody gets in without the password."""
    password = str(secrets_folder / "orthanc_password")
    assert tool("load", "--url", orthanc_url, "--password-file", password).endswith(": Success")
    assert requests.get(f"{orthanc_url}/dicom-web/studies", timeout=60).status_code == 401


@pytest.mark.orthanc
def test_orthanc_and_the_sidecar(tmp_path: Path, secrets_folder: Path) -> None:
    """Tokens are from a scripted server here; Keycloak's are below."""
    ehr = ScriptedEhr()
    ehr.answer = ehr.answer | {"patient": "p1", "scope": SCOPE, "aud": AUDIENCE}
    with orthanc(tmp_path, secrets_folder) as url, Background() as background:
        loaded(url, secrets_folder)
        hosts = {"orthanc:8042": url, "ehr:8080": f"http://127.0.0.1:{background.serve(ehr.app())}"}
        with serving(tmp_path, sidecar_file(tmp_path, secrets_folder, hosts)) as running:
            assert requests.get(running.admin + "/readyz", timeout=60).json() == {"status": "ready"}
            search_and_retrieve(running.url, "any")
            assert running.end() == 0


@pytest.mark.orthanc
@pytest.mark.authorization_server
def test_with_keycloak_and_a_token_as_the_readme_has_it(
    tmp_path: Path, secrets_folder: Path
) -> None:
    installed(KEYCLOAK.is_dir(), NO_KEYCLOAK)

    def ours(realm: dict[str, Any]) -> None:
        realm.clear()
        realm.update(json.loads((secrets_folder / "hospital.json").read_text()))

    with (
        Keycloak(ours) as keycloak,
        orthanc(tmp_path, secrets_folder) as url,
        Background() as background,
    ):
        loaded(url, secrets_folder)
        hosts = {"orthanc:8042": url, "keycloak:8080": keycloak.url}

        async def document(request: web.Request) -> web.Response:
            return web.json_response(smart_configuration(hosts))

        ehr = web.Application()
        ehr.router.add_get("/fhir/.well-known/smart-configuration", document)
        hosts["ehr:8080"] = f"http://127.0.0.1:{background.serve(ehr)}"
        realm_url = f"{keycloak.url}/realms/hospital"
        token = tool(
            "token",
            "--realm-url",
            realm_url,
            "--password-file",
            str(secrets_folder / "user_password"),
        )
        with serving(tmp_path, sidecar_file(tmp_path, secrets_folder, hosts)) as running:
            search_and_retrieve(running.url, token)
