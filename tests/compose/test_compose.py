"""The compose file without an engine: its schema, what it mounts, who reaches whom."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

import sidecar
from sidecar.fhir.capability_statement import APP_LAUNCH
from sidecar.settings.document import Settings
from sidecar.settings.load import load_settings
from tests.compose.deployment import (
    COMPOSE,
    DEPLOYMENT,
    FILE,
    ROOT,
    RUNNING,
    SERVICES,
    TOOLS,
    mounts,
    prepared,
    secrets,
    sidecar_file,
    smart_configuration,
)
from tests.prometheus.promtool import promtool
from tests.schemas import valid

__all__ = ["promtool"]

PROMETHEUS = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yaml").read_text())
DATASOURCES = yaml.safe_load((COMPOSE / "grafana" / "datasources.yaml").read_text())["datasources"]
DASHBOARDS = yaml.safe_load((COMPOSE / "grafana" / "dashboards.yaml").read_text())["providers"]
ORTHANC = json.loads((COMPOSE / "orthanc" / "orthanc.json").read_text())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The sidecar's, by its own models."""
    folder = tmp_path_factory.mktemp("compose")
    return load_settings([sidecar_file(folder, prepared(folder))], {})


def test_it_is_a_compose_file(tmp_path: Path) -> None:
    """By the schema of the Compose Specification (github.com/compose-spec, Apache-2.0)."""
    done = valid("compose-spec", FILE)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("    depends_on:", "    depend_on:"))
    assert "depend_on" in valid("compose-spec", wrong).stdout


def test_all_parts_are_there() -> None:
    assert sorted(RUNNING) == ["ehr", "grafana", "keycloak", "orthanc", "prometheus", "sidecar"]
    assert sorted(TOOLS) == ["load", "token"]


def test_versions_are_pinned_and_those_of_the_project() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    for image in images.values():
        assert re.search(r":v?\d+\.\d+\.\d+(-alpine|rc\d+)?$", image), image
    for ours in ("sidecar", *TOOLS):
        assert images[ours] == f"smart-imaging-sidecar:{sidecar.__version__}"
        assert SERVICES[ours]["pull_policy"] in ("build", "never"), (
            "a registry's image of that name is not ours"
        )
    version = re.search(
        r"^KEYCLOAK_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert version
    assert images["keycloak"].endswith(f":{version[1]}")
    chart = yaml.safe_load((ROOT / "helm" / "smart-imaging-sidecar" / "values.yaml").read_text())
    assert images["orthanc"] == chart["orthanc"]["image"]
    assert (
        COMPOSE / SERVICES["sidecar"]["build"]["context"] / "Dockerfile"
    ).resolve() == ROOT / "Dockerfile"


@pytest.mark.parametrize("name", SERVICES)
def test_each_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is (name != "keycloak")
    assert not service.keys() & {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices"}
    assert "docker.sock" not in json.dumps(service)
    if service["read_only"]:
        assert "/tmp" in service.get("tmpfs", []) or name == "prometheus"


@pytest.mark.parametrize("name", sorted(RUNNING))
def test_each_is_waited_for_until_it_works(name: str) -> None:
    assert "healthcheck" in SERVICES[name] or (
        name == "sidecar" and "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()
    )
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert needed in RUNNING
        assert how == {"condition": "service_healthy"}
    test = SERVICES[name].get("healthcheck", {}).get("test", [])
    if "bash" in test:
        done = subprocess.run(
            ["bash", "-n", "-c", test[-1]], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_only_the_sidecar_and_grafana_are_published_and_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"sidecar": ["127.0.0.1:8080:8080"], "grafana": ["127.0.0.1:3000:3000"]}


def test_only_the_sidecar_reaches_the_archive() -> None:
    networks: dict[str, dict[str, Any]] = DEPLOYMENT["networks"]
    assert SERVICES["orthanc"]["networks"] == ["archive"]
    assert networks["archive"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "archive" in service["networks"]} == {
        "orthanc",
        "sidecar",
        "load",
    }
    assert "load" in TOOLS, "only while somebody stores images"


def test_who_is_not_published_has_no_way_out() -> None:
    networks = DEPLOYMENT["networks"]
    for name, service in SERVICES.items():
        open_ones = [
            network for network in service["networks"] if not networks[network].get("internal")
        ]
        assert open_ones == (["public"] if "ports" in service else []), name


def test_hosts_and_ports_are_those_of_services_on_a_shared_network(settings: Settings) -> None:
    """Whoever asks somebody by name shares a network with him, and he listens there."""
    nginx = re.search(r"listen (\d+);", (COMPOSE / "ehr" / "nginx.conf").read_text())
    assert nginx
    listens: dict[str, set[int]] = {
        "orthanc": {ORTHANC["HttpPort"]},
        "keycloak": {8080},
        "ehr": {int(nginx[1])},
        "sidecar": {settings.server.port, settings.server.admin_port},
        "prometheus": {9090},
    }
    (scrape,) = PROMETHEUS["scrape_configs"]
    smart = smart_configuration({})
    asked = [
        ("sidecar", settings.ehr.fhir_url),
        ("sidecar", settings.pacs.url),
        ("sidecar", smart["introspection_endpoint"]),
        *(
            ("prometheus", f"http://{target}")
            for one in scrape["static_configs"]
            for target in one["targets"]
        ),
        *(("grafana", one["url"]) for one in DATASOURCES),
        ("token", SERVICES["keycloak"]["environment"]["KC_HOSTNAME"]),
    ]
    for tool in TOOLS:
        script = mounts(tool)["/tools"] / Path(SERVICES[tool]["entrypoint"][1]).name
        asked += [
            (tool, url) for url in re.findall(r'default="(http://[^"]+)"', script.read_text())
        ]
    assert len(asked) == 8
    for who, url in asked:
        address = urlsplit(url)
        assert address.hostname in SERVICES, url
        assert set(SERVICES[who]["networks"]) & set(SERVICES[address.hostname]["networks"]), (
            who,
            url,
        )
        assert address.port in listens[address.hostname], url
    assert scrape["static_configs"] == [{"targets": [f"sidecar:{settings.server.admin_port}"]}]
    for name, service in SERVICES.items():
        for port in re.findall(
            r"127\.0\.0\.1[:/](\d+)", str(service.get("healthcheck", {}).get("test"))
        ):
            assert int(port) in listens.get(name, {3000}) | (
                {9000} if name == "keycloak" else set()
            )


def test_tokens_are_from_whom_they_should_be(settings: Settings) -> None:
    realm = json.loads((ROOT / "config" / "keycloak" / "hospital.json").read_text())
    smart = smart_configuration({})
    issuer = f"{SERVICES['keycloak']['environment']['KC_HOSTNAME']}/realms/{realm['realm']}"
    assert settings.ehr.issuer == smart["issuer"] == issuer
    for key in ("jwks_uri", "authorization_endpoint", "token_endpoint", "introspection_endpoint"):
        assert smart[key].startswith(f"{issuer}/protocol/openid-connect/")
    assert settings.tokens.audience
    assert settings.tokens.audience[0] in json.dumps(realm)
    (imaging,) = smart["associated_endpoints"]
    assert imaging == {
        "url": f"{settings.server.public_url}/fhir",
        "capabilities": ["smart-imaging-access", APP_LAUNCH],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_each_mounted_file_is_there_and_can_be_parsed(name: str) -> None:
    for target, source in mounts(name).items():
        assert source.exists(), source
        assert source.is_relative_to(ROOT), source
        if source.suffix == ".yaml":
            assert yaml.safe_load(source.read_text()), target
        elif source.suffix == ".json":
            assert json.loads(source.read_text()), target
        elif source.is_dir():
            for script in source.glob("*.py"):
                compile(script.read_text(), script, "exec")


def test_each_file_of_the_folder_is_used() -> None:
    """Nothing lies here that no container sees."""
    used = {source for name in SERVICES for source in mounts(name).values()}
    files = {file for file in COMPOSE.rglob("*") if file.is_file() and "secrets" not in file.parts}
    left = {file for file in files if not any(file.is_relative_to(one) for one in used)}
    assert {file.name for file in left} == {"compose.yaml", "prepare", "README.md"}


def test_volumes_and_networks_are_declared() -> None:
    for service in SERVICES.values():
        assert set(service["networks"]) <= DEPLOYMENT["networks"].keys()
        for volume in service.get("volumes", []):
            assert volume.startswith(".") or volume.split(":")[0] in DEPLOYMENT["volumes"]


def test_prepare_makes_every_secret_once(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    made = {file.name: file.read_text() for file in folder.iterdir()}
    assert made.keys() == {Path(secret["file"]).name for secret in DEPLOYMENT["secrets"].values()}
    assert made.keys() == {name for service in SERVICES for name in secrets(service).values()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o444}
    passwords = [
        made[name]
        for name in ("client_secret", "orthanc_password", "user_password", "grafana_password")
    ]
    assert len(set(passwords)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in passwords)
    assert json.loads(made["orthanc_users.json"]) == {
        "RegisteredUsers": {"sidecar": made["orthanc_password"]}
    }
    assert "change-this" not in made["hospital.json"]
    realm = json.loads(made["hospital.json"])
    assert realm["users"][0]["credentials"][0]["value"] == made["user_password"]
    assert made["client_secret"] in {client.get("secret") for client in realm["clients"]}
    prepared(tmp_path)
    assert {file.name: file.read_text() for file in folder.iterdir()} == made


def test_secrets_are_where_the_services_look() -> None:
    config = mounts("sidecar")["/etc/smart-imaging-sidecar/config.yaml"].read_text()
    assert set(re.findall(r"/run/secrets/\w+", config)) == secrets("sidecar").keys()
    for tool in TOOLS:
        script = mounts(tool)["/tools"] / Path(SERVICES[tool]["entrypoint"][1]).name
        assert set(re.findall(r"/run/secrets/\w+", script.read_text())) == secrets(tool).keys()
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] in secrets(
        "grafana"
    )
    assert secrets("keycloak").keys() == {"/opt/keycloak/data/import/hospital.json"}
    (folder,) = SERVICES["orthanc"]["command"]
    assert {Path(path).parent for path in (*mounts("orthanc"), *secrets("orthanc"))} == {
        Path(folder)
    }


def test_the_sidecar_believes_none_but_the_archives_user(settings: Settings) -> None:
    assert settings.pacs.auth.method == "basic"
    assert ORTHANC["AuthenticationEnabled"] is True
    assert "RegisteredUsers" not in ORTHANC
    assert urlsplit(settings.pacs.url).path + "/" == ORTHANC["DicomWeb"]["Root"]
    assert SERVICES["sidecar"]["environment"] == {
        "SIDECAR_SERVER__PUBLIC_URL": settings.server.public_url,
        "SIDECAR_SERVER__WORKERS": settings.server.workers,
    }


def test_grafana_has_the_dashboard_and_its_data() -> None:
    (provider,) = DASHBOARDS
    shown = {
        target: source for target, source in mounts("grafana").items() if source.suffix == ".json"
    }
    assert shown == {
        f"{provider['options']['path']}/sidecar.json": ROOT
        / "config"
        / "grafana"
        / "dashboard.json"
    }
    assert [one["type"] for one in DATASOURCES] == ["prometheus"]
    assert {Path(target).parent.name for target in mounts("grafana")} == {
        "datasources",
        "dashboards",
    }


@pytest.mark.prometheus
def test_prometheus_takes_its_configuration(promtool: str, tmp_path: Path) -> None:
    """With its files laid as they are in the container."""
    for target, source in mounts("prometheus").items():
        shutil.copy(source, tmp_path / Path(target).name)
    command = [promtool, "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout
    assert f"--config.file={next(iter(mounts('prometheus')))}" in SERVICES["prometheus"]["command"]


def test_the_readme_speaks_of_what_there_is() -> None:
    text = (COMPOSE / "README.md").read_text()
    for name in re.findall(r"docker compose (?:run --rm(?: -\w+(?: \S+)?)*|logs|exec) (\w+)", text):
        assert name in SERVICES, name
    for variable in re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE):
        assert f"${{{variable}:-" in FILE.read_text()
    assert set(re.findall(r"\$\{(\w+):-", FILE.read_text())) == set(
        re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE)
    )
