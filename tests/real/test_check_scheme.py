"""http and https mixed up in front of real servers: each answers in its own way, or not at all."""

from pathlib import Path

import pytest

from sidecar.check.names import FindingName
from sidecar.check.outcome import CheckOutcome, failure
from sidecar.check.scheme import with_hints
from tests.certificates import certificate
from tests.fakes.site import site_settings
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.proxies import haproxy, nginx
from tests.real.redis_server import redis_server
from tests.sidecar_process import free_port

HINT = "Is it reachable from here?"
WRITE_HTTPS = "It speaks TLS at this port: write https:// here."
SPEAKS_HTTP = "It speaks http, without TLS"


async def hint_about(url: str, name: FindingName = "pacs.query", **cache: str) -> str:
    """What ``check`` says of a server that failed, at ``pacs.url`` or for a token cache."""
    if cache:
        settings = site_settings(1, "http://x", {"tokens": {"cache": {"url": url, **cache}}})
    else:
        settings = site_settings(1, url)
    outcomes: dict[FindingName, CheckOutcome] = {name: failure("it fails", HINT)}
    return str((await with_hints(outcomes, settings))[name].hint)


@pytest.mark.nginx
async def test_nginx(tmp_path: Path) -> None:
    """It answers plain HTTP at a port for TLS by a 400."""
    files = certificate(tmp_path, "server")
    tls = f"ssl; ssl_certificate {files[0]}; ssl_certificate_key {files[1]}"
    with nginx(9, tls) as port:
        assert await hint_about(f"http://127.0.0.1:{port}/dicom-web") == WRITE_HTTPS
        assert await hint_about(f"https://127.0.0.1:{port}/dicom-web") == HINT
    with nginx(9) as port:
        assert await hint_about(f"http://127.0.0.1:{port}/dicom-web") == HINT
        assert (await hint_about(f"https://127.0.0.1:{port}/dicom-web")).startswith(SPEAKS_HTTP)
    with nginx(9, "; return 301 https://$host$request_uri") as port:
        hint = await hint_about(f"http://127.0.0.1:{port}/dicom-web")
        assert hint.startswith("It redirects to https")


@pytest.mark.haproxy
async def test_haproxy(tmp_path: Path) -> None:
    """It closes the connection."""
    both = tmp_path / "both.pem"
    both.write_text("".join(file.read_text() for file in certificate(tmp_path, "server")))
    with haproxy(9, f"ssl crt {both}") as port:
        assert await hint_about(f"http://127.0.0.1:{port}/dicom-web") == WRITE_HTTPS
        assert await hint_about(f"https://127.0.0.1:{port}/dicom-web") == HINT


@pytest.mark.orthanc
async def test_orthanc(tmp_path: Path) -> None:
    require_orthanc()
    with Orthanc() as orthanc:
        url = orthanc.dicomweb_url
        assert await hint_about(url) == HINT
        assert (await hint_about(url.replace("http:", "https:"))).startswith(SPEAKS_HTTP)


@pytest.mark.redis
async def test_redis(tmp_path: Path) -> None:
    key, files = tmp_path / "key", certificate(tmp_path, "server")
    key.write_text("k" * 64)
    cache = {"key_file": str(key)}
    with redis_server("--requirepass", "s3cret") as server:
        url, encrypted = server.url, server.url.replace("redis:", "rediss:")
        assert await hint_about(url, "tokens.cache.url", **cache) == HINT
        hint = await hint_about(encrypted, "tokens.cache.url", **cache)
        assert hint.startswith("It speaks redis, without TLS")
    tls = ("--tls-cert-file", str(files[0]), "--tls-key-file", str(files[1]))
    port = str(free_port())
    with redis_server(*tls, "--tls-ca-cert-file", str(files[0]), "--tls-port", port):
        address = f"://localhost:{port}"
        hint = await hint_about("redis" + address, "tokens.cache.url", **cache)
        assert hint == "It speaks TLS at this port: write rediss:// here."
        assert await hint_about("rediss" + address, "tokens.cache.url", **cache) == HINT
