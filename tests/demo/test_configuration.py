"""Where the demo listens, which URLs it names, and what its rules do."""

import os
import re
import stat
from pathlib import Path

import pytest

from sidecar.demo.configuration import (
    CAPABILITY_KEYS_FILE,
    Ports,
    demo_document,
    make_capability_keys,
    make_key,
)
from sidecar.demo.run import introduction
from sidecar.settings.adapter import ADAPTER

OWN = r"http://(?:\d+\.){3}\d+:8080"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_loopback_address_is_for_all(host: str) -> None:
    ports = Ports(host, 8080)
    shown = f"[{host}]" if ":" in host else host
    assert not ports.is_open
    assert ports.inner_host == host
    assert ports.sidecar_url == f"http://{shown}:8080"
    assert ports.archive_url == f"http://{shown}:8082/dicom-web"
    assert ports.metrics_url == f"http://{shown}:8083/metrics"
    assert "WARNING" not in "\n".join(introduction(ports, ports.archive_url, "token"))


@pytest.mark.parametrize("host", ["192.0.2.7", "demo.example.org", "2001:db8::7"])
def test_another_address_is_in_the_urls_and_warned_of(host: str) -> None:
    """The archive and the metrics, which have no token, stay on this machine."""
    ports = Ports(host, 8080)
    shown = f"[{host}]" if ":" in host else host
    assert ports.is_open
    assert ports.inner_host == "127.0.0.1"
    assert (ports.sidecar_url, ports.ehr_url) == (f"http://{shown}:8080", f"http://{shown}:8081")
    assert ports.archive_url == "http://127.0.0.1:8082/dicom-web"
    assert ports.metrics_url == "http://127.0.0.1:8083/metrics"
    assert "WARNING: other machines" in "\n".join(introduction(ports, ports.archive_url, "token"))


def test_all_addresses_are_named_by_one_that_others_can_reach() -> None:
    ports = Ports("0.0.0.0", 8080)
    assert ports.is_open
    assert re.fullmatch(OWN, ports.sidecar_url)
    assert "0.0.0.0" not in ports.sidecar_url + ports.ehr_url
    assert Ports("::", 8080).sidecar_url.startswith("http://[")


def test_the_keys_are_their_owners_alone_and_the_configuration_is_good(tmp_path: Path) -> None:
    make_key(tmp_path / "backend-key.pem")
    make_capability_keys(tmp_path / CAPABILITY_KEYS_FILE)
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in tmp_path.iterdir()} == {0o600}
    ports = Ports("127.0.0.1", 8080)
    settings = ADAPTER.validate_python(
        demo_document(ports, "secret", tmp_path, {"url": ports.archive_url})
    )
    assert [rule.effect for rule in settings.access.rules] == ["hold", "exclude"]
    assert settings.server.admin_host == "127.0.0.1"
