"""Whoever gives their own name this machine's address learns nothing (DNS rebinding)."""

import pytest

from sidecar.demo.own_names import is_own_name


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8080", True),
        ("127.0.0.1", True),
        ("localhost:8080", True),
        ("LocalHost", True),
        ("[::1]:8080", True),
        ("192.0.2.7:8080", True),
        ("demo.hospital.example.org:8080", True),
        ("DEMO.hospital.example.org", True),
        ("", False),
        ("attacker.example.org:8080", False),
        ("attacker.example.org", False),
        ("127.0.0.1.attacker.example.org:8080", False),
        ("localhost.attacker.example.org", False),
        ("demo.hospital.example.org.attacker.example.org", False),
        ("localhost:8080@attacker.example.org", False),
        ("[localhost]", False),
        ("::1", False),
        ("localhost:", False),
        ("127.0.0.1, attacker.example.org", False),
    ],
)
def test_names(host: str, is_own: bool) -> None:
    assert is_own_name(host, "demo.hospital.example.org") is is_own
