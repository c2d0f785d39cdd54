"""Whose request it is, behind trusted proxies (RFC 7239)."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from sidecar.web.forwarded import MOST_HOPS, ForwardedClients
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import PUBLIC_URL, sidecar_between
from tests.web.records import events, to

PROXY = "10.0.0.1"
CLIENTS = ForwardedClients(["10.0.0.0/8", "fd00::/8"])
F, X = "Forwarded", "X-Forwarded-For"

ADDRESSES: list[tuple[list[tuple[str, str]], str]] = [
    ([], PROXY),
    ([(X, "192.0.2.1")], "192.0.2.1"),
    ([(X, "6.6.6.6, 192.0.2.1")], "192.0.2.1"),
    ([(X, "6.6.6.6"), (X, "192.0.2.1")], "192.0.2.1"),
    ([(X, "6.6.6.6,192.0.2.1,10.1.1.1, fd00::1")], "192.0.2.1"),
    ([(X, "192.0.2.1"), (X, "10.1.1.1")], "192.0.2.1"),
    ([(X, "10.9.9.9, 10.1.1.1")], "10.9.9.9"),
    ([(X, "192.0.2.1:4711")], "192.0.2.1"),
    ([(X, "2001:DB8::1")], "2001:db8::1"),
    ([(X, "[2001:db8::1]:443")], "2001:db8::1"),
    ([(X, "::ffff:192.0.2.1")], "192.0.2.1"),
    ([(X, "::ffff:10.1.1.1")], "10.1.1.1"),
    ([(F, "for=192.0.2.1")], "192.0.2.1"),
    ([(F, "For=192.0.2.1;proto=https;by=10.0.0.1")], "192.0.2.1"),
    ([(F, 'proto=http;host="a,b;for=6.6.6.6\\"";for="192.0.2.1:_x"')], "192.0.2.1"),
    ([(F, 'for=6.6.6.6, for="[2001:db8::1]:443"')], "2001:db8::1"),
    ([(F, 'for="6.6.6.6, for=192.0.2.1')], "192.0.2.1"),
    ([(F, 'for="6.6.6.6, for="[2001:db8::1]"')], "2001:db8::1"),
    ([(F, 'for=192.0.2.1, for="[fd00::1]", for=10.1.1.1')], "192.0.2.1"),
    ([(F, "for=192.0.2.1"), (X, "192.0.2.1")], "192.0.2.1"),
]
"""Headers from a trusted proxy -> the client's address."""

OF_THE_PROXY = {
    "obfuscated": (F, "for=_hidden"),
    "unknown": (F, "for=unknown"),
    "none": (F, "proto=https"),
    "two": (F, "for=192.0.2.1;for=192.0.2.2"),
    "of several proxies": (F, "for=192.0.2.1, for=unknown, for=10.1.1.1"),
    "an open quotation mark": (F, 'for="192.0.2.1'),
    "spaces": (F, "for = 192.0.2.1"),
    "no number": (X, "192.0.2.1, localhost"),
    "left of a proxy": (X, "junk, 10.1.1.1"),
    "empty": (X, ""),
    "an empty element": (X, "192.0.2.1,"),
    "an open bracket": (X, "[2001:db8::1"),
    "a scope": (X, "fe80::1%eth0"),
    "a port that is none": (X, "192.0.2.1:x"),
    "a network": (X, "192.0.2.0/24"),
    "zeros": (X, "192.000.002.001"),
    "too many proxies": (X, ",".join(["192.0.2.1"] + ["10.1.1.1"] * MOST_HOPS)),
}
"""Of these no client is told."""


@pytest.mark.parametrize(("headers", "address"), ADDRESSES)
@pytest.mark.parametrize("peer", [PROXY, "::ffff:10.0.0.1", "fd00::7"])
def test_the_client_behind_trusted_proxies(
    peer: str, headers: list[tuple[str, str]], address: str
) -> None:
    found = CLIENTS.address(peer, CIMultiDict(headers))
    assert found == (address if headers else peer)


@pytest.mark.parametrize("header", OF_THE_PROXY.values(), ids=OF_THE_PROXY)
def test_what_cannot_be_read_leaves_the_peer(header: tuple[str, str]) -> None:
    assert CLIENTS.address(PROXY, CIMultiDict([header])) == PROXY


@pytest.mark.parametrize("peer", ["192.0.2.9", "::1", "11.0.0.1", None, "", "unix:"])
@pytest.mark.parametrize(("headers", "address"), ADDRESSES[:3])
def test_nobody_else_is_believed(
    peer: str | None, headers: list[tuple[str, str]], address: str
) -> None:
    assert CLIENTS.address(peer, CIMultiDict(headers)) == peer
    assert ForwardedClients([]).address(PROXY, CIMultiDict(headers)) == PROXY


def test_a_header_that_the_proxy_passes_on_is_not_believed() -> None:
    """A proxy that writes X-Forwarded-For may pass the client's own Forwarded on."""
    for client in ("for=6.6.6.6", "junk"):
        both = CIMultiDict([(F, client), (X, "192.0.2.1")])
        assert CLIENTS.address(PROXY, both) == PROXY


IPS = (
    st.ip_addresses()
    .filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None and not CLIENTS._trusts(ip))
    .map(str)
)
PROXIES = st.ip_addresses(network="10.0.0.0/8").map(str) | st.ip_addresses(network="fd00::/8").map(
    str
)
WRITTEN = st.text(st.characters(codec="ascii", exclude_categories=["Cc"])) | st.sampled_from(
    ['for="', 'for="\\', "for=6.6.6.6;by=", "6.6.6.6", "for=6.6.6.6", '"', ",,"]
)


def _forwarded(address: str) -> str:
    return f'proto=https;for="[{address}]:443"' if ":" in address else f"for={address}"


@given(IPS, st.lists(PROXIES, max_size=MOST_HOPS - 2), WRITTEN, st.booleans(), st.booleans())
def test_whatever_a_client_writes_it_is_known(
    client: str, proxies: list[str], written: str, is_forwarded: bool, is_appended: bool
) -> None:
    """Each proxy adds the address of its own client, in the line or in one of its own."""
    name = F if is_forwarded else X
    nodes = [_forwarded(one) if is_forwarded else one for one in (client, *proxies)]
    lines = [", ".join([written, *nodes])] if is_appended else [written, *nodes]
    assert CLIENTS.address(PROXY, CIMultiDict([(name, line) for line in lines])) == client


@given(st.sampled_from([F, X]), st.lists(st.text() | WRITTEN, max_size=4))
def test_junk_raises_nothing(name: str, lines: list[str]) -> None:
    CLIENTS.address(PROXY, CIMultiDict([(name, line) for line in lines]))


@pytest.mark.parametrize(
    "line", ["," * 8_190, '"\\' * 4_095, "\\" * 8_190, '",' * 4_095, "for=10.0.0.1," * 630]
)
def test_long_lines_take_no_time(line: str) -> None:
    headers = CIMultiDict([(name, line) for name in (F, X)] * 20)
    began = time.thread_time()
    CLIENTS.address(PROXY, headers)
    assert time.thread_time() - began < 0.03


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Nothing is retrieved."""


async def test_the_audit_trail_names_the_client(tmp_path: Path) -> None:
    """No answer does."""
    file = tmp_path / "audit.jsonl"
    told = []
    headers = {"Authorization": f"Bearer {TOKEN}", X: "6.6.6.6, 192.0.2.1"}
    for trusted in ([], ["127.0.0.0/8"]):
        server = {"forwarded_allow_ips": trusted, "public_url": PUBLIC_URL}
        async with (
            sidecar_between(ScriptedEhr(), ScriptedPacs(silent), audit=to(file), server=server) as (
                url,
                _,
            ),
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{url}/fhir/ImagingStudy?patient={PATIENT}") as response,
        ):
            assert response.status == 200
            assert "192.0.2.1" not in await response.text()
        told.append(events(file)[-1]["agent"][0]["network"]["address"])
    assert told == ["127.0.0.1", "192.0.2.1"]
    assert "6.6.6.6" not in file.read_text()
