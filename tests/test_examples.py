"""The files in config/ are complete: `serve` starts with each, and logs what it cannot reach."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from sidecar.settings.adapter import ADAPTER
from sidecar.settings.load import load_settings
from tests.background import Background
from tests.command import serving
from tests.ehr.backend import pem
from tests.fakes.ehr import ScriptedEhr
from tests.real.orthanc import Orthanc, require_orthanc
from tests.sidecar_process import free_port

EXAMPLES = sorted((Path(__file__).parent.parent / "config").glob("*.yaml"))
KEY = rsa.generate_private_key(65_537, 2_048)


def certificate() -> bytes:
    """A self-signed certificate authority, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def with_secrets(example: Path, directory: Path) -> Path:
    """Return the example with ``directory`` in place of /run/secrets."""
    secrets = directory / "secrets"
    secrets.mkdir()
    key = pem(KEY).encode()
    text = example.read_text()
    for name in re.findall(r"/run/secrets/(\w+(?:\.\w+)?)", text):
        content = (
            key if "key" in name else certificate() if "ca" in name else b"only for this test\n"
        )
        (secrets / name).write_bytes(content)
    file = directory / example.name
    file.write_text(text.replace("/run/secrets", str(secrets)))
    return file


# Where settings name all that we would ask the EHR for, nothing of it is needed to be ready.
WITHOUT_EHR = {"keycloak"}


def test_there_are_the_examples_that_the_documents_name() -> None:
    assert [file.name for file in EXAMPLES] == ["dcm4chee.yaml", "keycloak.yaml", "orthanc.yaml"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_it_starts_and_says_what_is_not_reachable(example: Path, tmp_path: Path) -> None:
    file = with_secrets(example, tmp_path)
    nowhere = tmp_path / "nowhere.yaml"
    url = f"http://127.0.0.1:{free_port()}"
    nowhere.write_text(
        yaml.safe_dump({"ehr": {"fhir_url": f"{url}/fhir"}, "pacs": {"url": f"{url}/dicom-web"}})
    )
    with serving(tmp_path, file, nowhere) as running:
        assert requests.get(running.admin + "/healthz", timeout=60).json() == {"status": "alive"}
        ready = requests.get(running.admin + "/readyz", timeout=60)
        assert ready.status_code == 503
        needed = {"pacs"} if example.stem in WITHOUT_EHR else {"ehr", "pacs"}
        assert ready.json()["problems"].keys() == needed
        metadata = requests.get(running.url + "/fhir/metadata", timeout=60)
        assert metadata.json()["resourceType"] == "CapabilityStatement"
        assert running.end() == 0


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_secrets_are_files_and_what_is_elsewhere_is_https(example: Path, tmp_path: Path) -> None:
    """Examples are copied: no secret in place, no plain http outside, no open admin listener."""
    settings = load_settings([with_secrets(example, tmp_path)], {})
    assert "**********" not in ADAPTER.dump_json(settings).decode()
    assert settings.server.public_url.startswith("https://")
    assert settings.server.admin_host == "127.0.0.1"
    for url in (settings.ehr.fhir_url, settings.pacs.url):
        assert url.startswith(("https://", "http://127.0.0.1:"))


def test_what_is_commented_out_loads_too(tmp_path: Path) -> None:
    """The lines of orthanc.yaml that wait behind a # are right as well."""
    file = with_secrets(next(one for one in EXAMPLES if one.stem == "orthanc"), tmp_path)
    text, replaced = re.subn(
        r"^( *)# (cors_origins|auth):", r"\1\2:", file.read_text(), flags=re.MULTILINE
    )
    assert replaced == 2
    file.write_text(text)
    settings = load_settings([file], {})
    assert settings.pacs.auth.method == "basic"
    assert settings.server.cors_origins == ("https://viewer.hospital.example.org",)


@pytest.mark.orthanc
def test_orthanc_yaml_is_ready_in_front_of_a_real_orthanc(tmp_path: Path) -> None:
    require_orthanc()
    file = with_secrets(next(one for one in EXAMPLES if one.stem == "orthanc"), tmp_path)
    with Orthanc() as orthanc, Background() as background:
        ehr = f"http://127.0.0.1:{background.serve(ScriptedEhr().app())}/fhir"
        changes = {"SIDECAR_EHR__FHIR_URL": ehr, "SIDECAR_PACS__URL": orthanc.dicomweb_url}
        with serving(tmp_path, file, changes=changes) as running:
            assert requests.get(running.admin + "/readyz", timeout=60).json() == {"status": "ready"}


@pytest.mark.parametrize(
    "file",
    [
        "helm/smart-imaging-sidecar/templates/orthanc.yaml",
        "config/compose/orthanc/orthanc.json",
        "docs/orthanc.md",
    ],
)
def test_each_orthanc_answers_in_utf8(file: str) -> None:
    """Else its lists lack characters (docs/orthanc.md, Character sets)."""
    assert '"DefaultEncoding": "Utf8"' in (EXAMPLES[0].parent.parent / file).read_text()
