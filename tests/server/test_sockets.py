"""The listening sockets that all workers share."""

import socket

import pytest

from sidecar.server.sockets import listen_on


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::"])
def test_each_address_of_a_host_listens(host: str) -> None:
    sockets = listen_on(host, 0, "server.port")
    assert sockets
    for opened in sockets:
        address = "::1" if opened.family == socket.AF_INET6 else "127.0.0.1"
        socket.create_connection((address, opened.getsockname()[1]), timeout=60).close()
        opened.close()


def test_both_families_may_have_the_same_port() -> None:
    first = listen_on("0.0.0.0", 0, "server.port")
    second = listen_on("::", first[0].getsockname()[1], "server.port")
    for opened in (*first, *second):
        opened.close()


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("127.0.0.1", None, "address already in use"),
        ("192.0.2.1", 0, "cannot assign requested address"),
        ("no.such.host.invalid", 0, "Name or service not known|Temporary failure|No address"),
    ],
)
def test_what_cannot_be_had_is_named(host: str, port: int | None, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if port is None else port
        with pytest.raises(OSError, match=why) as caught:
            listen_on(host, port, "server.port")
    assert caught.value.filename == f"server.port: {host}:{port}"
