"""http and https mixed up, in both directions: ``check`` says so, at each server that it asks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from sidecar.check.names import FindingName
from sidecar.check.outcome import CheckOutcome, failure, ok, skipped, warning
from sidecar.check.scheme import URLS, with_hints
from sidecar.conformance.finding import State
from sidecar.settings.reference import all_keys
from tests.certificates import certificate, server_context
from tests.check.scripted_site import Pacs, found, served
from tests.common.peer import Peer, Reply
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.site import site_settings

NOT_REACHED = failure("it does not answer", "Is it reachable from here?")


@contextlib.asynccontextmanager
async def tls_port(folder: Path, body: str = "") -> AsyncIterator[int]:
    """A port that speaks TLS, and answers any request with this JSON."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())
        writer.close()

    context = server_context(certificate(folder, "server"))
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def hint_about(url: str) -> str:
    """The hint that a failure at ``pacs.url`` ends with."""
    pacs = {"auth": {"method": "bearer", "token": "ours"}}
    hinted = await with_hints({"pacs.query": NOT_REACHED}, site_settings(1, url, {"pacs": pacs}))
    return str(hinted["pacs.query"].hint)


async def test_http_where_https_is_spoken(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    async with tls_port(tmp_path) as port:
        url = f"http://localhost:{port}"
        for name, section in (("pacs.query", "pacs"), ("ehr.smart_configuration", "ehr")):
            key = "url" if section == "pacs" else "fhir_url"
            finding = (await found(ehr, pacs, **{section: {key: url}}))[name]
            assert finding.state is State.FAIL
            assert finding.hint == "It speaks TLS at this port: write https:// here."


async def test_https_where_http_is_spoken(ehr: ScriptedEhr, pacs: Pacs) -> None:
    async with served(ehr, pacs) as settings:
        ehr_url = settings.ehr.fhir_url.replace("http:", "https:")
        pacs_url = settings.pacs.url.replace("http:", "https:")
        findings = await found(ehr, pacs, ehr={"fhir_url": ehr_url}, pacs={"url": pacs_url})
    for name in ("pacs.query", "ehr.smart_configuration"):
        assert findings[name].state is State.FAIL
        assert str(findings[name].hint).startswith("It speaks http, without TLS")


async def test_a_smart_configuration_with_http_below_https(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path
) -> None:
    """As an EHR behind a proxy writes it that does not know of the proxy."""
    async with tls_port(tmp_path, '{"introspection_endpoint": "http://ehr/introspect"}') as port:
        url, ca_file = f"https://localhost:{port}/fhir", str(tmp_path / "server.pem")
        finding = (await found(ehr, pacs, ehr={"fhir_url": url, "ca_file": ca_file}))[
            "ehr.smart_configuration"
        ]
    assert (finding.state, finding.text) == (State.FAIL, "discovery_insecure_endpoint")
    assert "names an endpoint with http" in str(finding.hint)


@pytest.mark.parametrize("location", ["https://elsewhere.example.org/x", "HTTPS://x"])
async def test_http_that_redirects_to_https(peer: Peer, location: str) -> None:
    peer.say(Reply(status=301, headers={"Location": location}))
    hint = await hint_about(peer.url + "/dicom-web")
    assert hint.startswith("It redirects to https")
    assert "elsewhere" not in hint


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 503])
async def test_what_speaks_the_right_scheme_keeps_its_hint(peer: Peer, status: int) -> None:
    """Nor is it given credentials."""
    peer.say(Reply(status=status, headers={"Location": "/login"}))
    assert await hint_about(peer.url) == NOT_REACHED.hint
    assert all("Authorization" not in asked.headers for asked in peer.asked)


async def test_a_port_that_refuses_plain_http_may_speak_a_tls_that_we_do_not(peer: Peer) -> None:
    peer.say(Reply(status=400))
    assert await hint_about(peer.url.replace("http:", "https:")) == NOT_REACHED.hint


async def test_what_nothing_listens_at_keeps_its_hint(tmp_path: Path) -> None:
    for scheme in ("http", "https"):
        assert await hint_about(f"{scheme}://127.0.0.1:9") == NOT_REACHED.hint
    async with tls_port(tmp_path) as port:
        assert await hint_about(f"https://localhost:{port}") == NOT_REACHED.hint


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_shared_token_cache(tmp_path: Path, scheme: str) -> None:
    async def pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-NOAUTH Authentication required.\r\n" if await reader.read(9) else b"")
        writer.close()

    key = tmp_path / "key"
    key.write_text("k" * 64)
    async with (
        tls_port(tmp_path) as with_tls,
        await asyncio.start_server(pong, "127.0.0.1", 0) as server,
    ):
        plain = server.sockets[0].getsockname()[1]
        for port, is_right in ((with_tls, scheme == "rediss"), (plain, scheme == "redis")):
            cache = {"url": f"{scheme}://127.0.0.1:{port}", "key_file": str(key)}
            settings = site_settings(1, "http://x.example.org", {"tokens": {"cache": cache}})
            hinted = await with_hints({"tokens.cache.url": NOT_REACHED}, settings)
            hint = str(hinted["tokens.cache.url"].hint)
            assert ("rediss://" in hint or "speaks redis," in hint) is not is_right


@pytest.mark.parametrize(
    "outcome", [ok("fine"), skipped("needs another"), warning("odd", "Is it?")], ids=str
)
async def test_only_what_fails_is_asked(peer: Peer, outcome: CheckOutcome) -> None:
    outcomes: dict[FindingName, CheckOutcome] = {"pacs.query": outcome}
    assert await with_hints(outcomes, site_settings(1, peer.url)) == outcomes
    assert peer.asked == []


class Key:
    """Stands for settings: any attribute of it is a key, by its whole name."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __getattr__(self, name: str) -> "Key":
        return Key(f"{self.name}.{name}".strip("."))


OURS = {"server.public_url", "fhir.contained_endpoint"}


def test_every_url_of_a_server_is_among_them() -> None:
    read = {cast("Any", url_in)(Key()).name for url_in in URLS.values()}
    urls = {key.name for key in all_keys() if key.path[-1].endswith(("url", "endpoint"))}
    assert read == urls - OURS
