"""The trial of ``config/compose``, as an engine would read it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "config" / "compose"
FILE = COMPOSE / "compose.yaml"


def interpolated(text: str) -> str:
    """``${NAME:-default}`` is the default, ``$$`` a dollar: no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")


DEPLOYMENT: dict[str, Any] = yaml.safe_load(interpolated(FILE.read_text()))
SERVICES: dict[str, dict[str, Any]] = DEPLOYMENT["services"]
TOOLS = {name for name, service in SERVICES.items() if service.get("profiles") == ["tools"]}
RUNNING = SERVICES.keys() - TOOLS


def mounts(service: str) -> dict[str, Path]:
    """Each file or folder of ours in the service's container: its path there, and ours."""
    found = {}
    for volume in SERVICES[service].get("volumes", []):
        source, target, *options = volume.split(":")
        if source.startswith("."):
            assert options == ["ro"], volume
            found[target] = (COMPOSE / source).resolve()
    return found


def secrets(service: str) -> dict[str, str]:
    """Each secret in the service's container: its path there, and its file's name."""
    found = {}
    for secret in SERVICES[service].get("secrets", []):
        name, target = (
            (secret["source"], secret["target"]) if isinstance(secret, dict) else (secret, secret)
        )
        source = Path(DEPLOYMENT["secrets"][name]["file"])
        assert source.parent == Path("secrets")
        found[target if target.startswith("/") else f"/run/secrets/{target}"] = source.name
    return found


def prepared(folder: Path) -> Path:
    """The secrets as ``prepare`` makes them."""
    secrets_folder = folder / "secrets"
    subprocess.run([COMPOSE / "prepare", secrets_folder], check=True, timeout=60)
    return secrets_folder


def sidecar_file(folder: Path, secrets_folder: Path, hosts: dict[str, str] | None = None) -> Path:
    """The sidecar's configuration file with the secrets of ``secrets_folder``, and other addresses
    for ``hosts``.
    """
    text = (
        (COMPOSE / "sidecar" / "config.yaml")
        .read_text()
        .replace("/run/secrets", str(secrets_folder))
    )
    file = folder / "config.yaml"
    file.write_text(replaced(text, hosts or {}))
    return file


def replaced(text: str, hosts: dict[str, str]) -> str:
    """``text`` with what stands for ``http://name:port`` in it."""
    for host, url in hosts.items():
        text = text.replace(f"http://{host}/", f"{url}/")
    return text


def smart_configuration(hosts: dict[str, str]) -> dict[str, Any]:
    """The EHR's document."""
    found: dict[str, Any] = json.loads(
        replaced((COMPOSE / "ehr" / "smart-configuration.json").read_text(), hosts)
    )
    return found
