"""Every row of the attack table, and for each: what reached the PACS (issue of parser
differentials: nothing).
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web

from sidecar.server.listener import listen
from tests.attacks.raw import RawAnswer, answers, request, send
from tests.attacks.row import FOREIGN, OWN, REFUSED, Row
from tests.capability_keys import token_bound
from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import sidecar_between
from tests.stalls import measured
from tests.tables.attacks import rows
from tests.tables.capability_attacks import PUBLIC_URL

ROWS = rows()
# What the PACS may be asked: our own alphabet, keyword or tag names, no escape but those that we
# write ourselves.
TARGET = re.compile(
    r"/dicom-web/(studies|series|instances)(/[0-9.]+(/(series|instances)(/[0-9.]+)?)*)?\?[!-~]*",
    re.ASCII,
)


@dataclass
class Victim:
    """A sidecar, and the PACS behind it, which ignores every filter and answers the patient's own
    rows.
    """

    port: int
    pacs: ScriptedPacs


@pytest.fixture
async def victim(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Victim]:
    pacs = ScriptedPacs(GOOD["until-close"])
    capabilities = token_bound(tmp_path)
    server = {"wado_uri": True, "public_url": PUBLIC_URL}
    async with sidecar_between(ScriptedEhr(), pacs, server=server, capabilities=capabilities) as (
        url,
        _,
    ):
        with measured(request):
            yield Victim(int(url.rpartition(":")[2]), pacs)


def check_answer(answer: RawAnswer) -> None:
    """What holds for any answer: nothing of the request comes back in a header, nothing of the
    inside shows.
    """
    whole = repr(answer.headers) + answer.body.decode("latin-1") * (answer.status != 200)
    for secret in (TOKEN, "127.0.0.1", "/dicom-web", "Traceback", "aiohttp", "evil.example.org"):
        assert secret not in whole.replace(
            "'access-control-allow-origin', 'https://evil.example.org'", ""
        ), secret
    assert answer.header("x-injected") is None
    assert answer.header("set-cookie") is None
    assert answer.header("access-control-allow-credentials") is None


def check_pacs(pacs: ScriptedPacs, allowed: str) -> None:
    queries = [target for target in pacs.requests if "?" in target]
    if allowed == "nothing":
        assert pacs.requests == []
    if allowed == "queries":
        assert pacs.requests == queries
    for target in queries:
        assert TARGET.fullmatch(target), target
        names = [name for name, _ in parse_qsl(urlsplit(target).query)]
        assert len(names) == len(set(names)), target
        values = dict(parse_qsl(urlsplit(target).query))
        assert values.get("PatientID", PATIENT) == PATIENT
        assert "00100020" not in names
    for head in pacs.heads:
        assert TOKEN not in head
        assert "evil" not in head
        assert "traceparent" not in head.lower()
        assert FOREIGN not in head.split("\r\n")[0] or "?" in head.split("\r\n")[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_row(row: Row, victim: Victim) -> None:
    received = await send(victim.port, row.data)
    found = answers(received)
    assert len(found) <= 1 or row.name.startswith("HTTP: ")
    for answer in found:
        assert answer.status in row.statuses | (REFUSED if answer is not found[0] else frozenset())
        check_answer(answer)
    # A request that is not even HTTP may be answered by closing the connection.
    assert found or row.name.startswith(("HTTP: ", "path: ", "token: "))
    await asyncio.sleep(0)
    check_pacs(victim.pacs, row.pacs)


async def test_the_good_request_is_served(victim: Victim) -> None:
    """The table proves something only if the plain request works."""
    (answer,) = answers(await send(victim.port, request(OWN)))
    assert answer.status == 200
    assert victim.pacs.requests[-1].endswith(OWN.rpartition("/")[2])


async def test_pipelining_answers_in_order(victim: Victim) -> None:
    """Two requests in one packet: each its own answer, each decided for itself."""
    first = request(OWN, token=False).replace(b"Connection: close\r\n", b"")
    found = answers(await send(victim.port, first + request("/fhir/Endpoint/p2")))
    assert [answer.status for answer in found] == [401, 404]
    assert victim.pacs.requests == []


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "then another request" in row.name], ids=lambda row: row.name
)
async def test_a_chunked_search_is_the_last_request_of_its_connection(
    row: Row, victim: Victim
) -> None:
    """Its trailer would be a header field of the next one: a token for a request that has none."""
    (answer,) = answers(await send(victim.port, row.data))
    assert (answer.status, answer.header("connection")) == (200, "close")
    assert not any(STUDY in target and "?" not in target for target in victim.pacs.requests)


async def test_http_1_0(victim: Victim) -> None:
    """No Host, no chunks: the end of the connection is the end of the body."""
    received = await send(victim.port, request(OWN, version="HTTP/1.0", host=None))
    (answer,) = answers(received)
    assert answer.status == 200
    assert answer.header("transfer-encoding") is None


async def test_headers_in_small_pieces(victim: Victim) -> None:
    """A slow, honest client."""
    (answer,) = answers(await send(victim.port, request(OWN), pieces=40))
    assert answer.status == 200


async def test_a_slow_body_is_not_waited_for(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.web.negotiate.BODY_SECONDS", 0.2)
    form = "Content-Type: application/x-www-form-urlencoded"
    head = request("/fhir/ImagingStudy/_search", form, "Content-Length: 100", method="POST")
    (answer,) = answers(await send(victim.port, head + b"patient="))
    assert answer.status == 408
    assert victim.pacs.requests == []


async def test_slow_headers_are_not_waited_for() -> None:
    """Slowloris: a connection has so long for a whole request head, however steadily it drips."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    async with listen(app, "127.0.0.1", 0, idle_seconds=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                for number in itertools.count():
                    writer.write(b"GET / HTTP/1.1\r\n" if number == 0 else b"X-%d: y\r\n" % number)
                    await writer.drain()
                    if reader.at_eof() or await _ended(reader):
                        break
        writer.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), 0.05) == b""
    except TimeoutError:
        return False


async def test_cors_of_a_foreign_origin_has_no_credentials(victim: Victim) -> None:
    preflight = request(
        OWN,
        "Origin: https://evil.example.org",
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: authorization",
        method="OPTIONS",
        token=False,
    )
    (answer,) = answers(await send(victim.port, preflight))
    assert answer.status == 200
    assert answer.header("access-control-allow-credentials") is None
    assert victim.pacs.requests == []
