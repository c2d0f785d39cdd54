"""The configurations of config/proxies in front of a sidecar: docs/reverse-proxies.md."""

import asyncio
import contextlib
import hashlib
import io
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import aiohttp
import pytest
from aiohttp import web

from sidecar.bootstrap.build import build
from sidecar.server.listener import listen
from tests.attacks.raw import RawAnswer, answers, request
from tests.capability_keys import token_bound
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import HEADERS, site_settings
from tests.fakes.stream_server import stream_server
from tests.fhir.rows import row
from tests.installed import installed
from tests.real.reverse_proxies import PATH, PROGRAMS, WAYS, Program, ReverseProxy, reverse_proxy
from tests.tables.proxied_targets import TARGETS
from tests.waiting import WAIT_SECONDS, wait_until_async
from tests.web.records import events, to

STUDY, OTHER, LARGE = "1.2.840.1", "1.2.840.2", "1.2.840.3"
INSTANCES = {STUDY: 4, OTHER: 1, LARGE: 96}
SEARCH = "/fhir/ImagingStudy?_count=1"
MULTIPART = 'multipart/related; type="application/dicom"; transfer-syntax=*'
IN_FLIGHT = 64 * 2**20
"""Bytes that kernels and programs may hold between an archive and a client that does not read."""


def uids(study: str, number: int) -> dict[str, str]:
    return {
        "PatientID": PATIENT,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": f"{study}.1.{number}",
    }


def instance(study: str, number: int) -> bytes:
    """A DICOM file: of 1 MiB in the large study."""
    return encoded(
        dataset(
            **uids(study, number),
            BitsAllocated=8,
            PixelData=bytes(2**20 if study == LARGE else 200_000),
        )
    )


def mark(program: Program) -> pytest.MarkDecorator:
    """What the test needs."""
    found: pytest.MarkDecorator = getattr(pytest.mark, program.name)
    return found


@dataclass
class Archive:
    """Sends a study's instances one by one; all but the first wait until ``may_go_on`` is set.

    ``sent`` counts bytes. ``left`` is set when its peer has gone before the end.
    """

    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    may_begin: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0

    def __post_init__(self) -> None:
        self.may_go_on.set()
        self.may_begin.set()

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        await self.may_begin.wait()
        study = request.path.split("/")[3]
        answer = web.StreamResponse()
        answer.headers["Content-Type"] = (
            'multipart/related; type="application/dicom"; boundary=part'
        )
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        try:
            last = request.path.rpartition(".")[2]
            wanted = [int(last)] if "/instances/" in request.path else range(INSTANCES[study])
            for number in wanted:
                if number:
                    await self.may_go_on.wait()
                part = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
                part += instance(study, number) + b"\r\n"
                await answer.write(part)
                self.sent += len(part)
            await answer.write(b"--part--\r\n")
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        return answer


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((program, way), id=f"{program.name}, {way}", marks=mark(program))
        for program in PROGRAMS
        for way in WAYS
    ],
)
def proxy(request: pytest.FixtureRequest) -> Iterator[ReverseProxy]:
    """A proxy that outlives the sidecars behind it: nobody reloads it."""
    with reverse_proxy(*request.param) as running:
        yield running


@pytest.fixture
def archive() -> Archive:
    return Archive()


@contextlib.asynccontextmanager
async def sidecar_behind(
    proxy: ReverseProxy, archive: Archive, folder: Path, **limits: Any
) -> AsyncIterator[None]:
    """Run a sidecar where the proxy expects it."""
    rows = [
        row(**uids(study, number), RetrieveURL=f"http://pacs.example.org/rs/studies/{study}")
        for study, count in INSTANCES.items()
        for number in range(count)
    ]
    changes: dict[str, dict[str, Any]] = {
        "server": {
            "public_url": proxy.url,
            "forwarded_allow_ips": ["127.0.0.1"],
            "wado_uri": True,
        },
        "capabilities": token_bound(folder),
        "audit": to(folder / "trail"),
        "limits": limits,
    }
    pacs = RowArchive(*rows, retrieve=archive.retrieve)
    async with (
        listen(ScriptedEhr().app(), "127.0.0.1", 0) as ehr,
        pacs.serve() as root,
        build(site_settings(ehr, root, changes)) as sidecar,
        listen(sidecar.public, "127.0.0.1", proxy.upstream),
    ):
        yield


@pytest.fixture
async def served(proxy: ReverseProxy, archive: Archive, tmp_path: Path) -> AsyncIterator[None]:
    """A sidecar behind the proxy."""
    async with sidecar_behind(proxy, archive, tmp_path):
        yield


@pytest.fixture
async def app(proxy: ReverseProxy) -> AsyncIterator[aiohttp.ClientSession]:
    """An app in front of the proxy."""
    async with connected(proxy) as session:
        yield session


@contextlib.asynccontextmanager
async def connected(proxy: ReverseProxy) -> AsyncIterator[aiohttp.ClientSession]:
    """An app's connections to the proxy, from an address of its own."""
    connector = aiohttp.TCPConnector(
        ssl=ssl.create_default_context(cafile=str(proxy.ca)),
        local_addr=("127.0.0.9", 0),
        family=socket.AF_INET,
    )
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
        yield session


async def got(app: aiohttp.ClientSession, url: str, accept: str = "*/*") -> Any:
    """The JSON of a good answer."""
    async with app.get(url, headers={"Accept": accept}) as answer:
        assert answer.status == 200, url
        assert answer.headers["X-Request-Id"]
        return await answer.json(content_type=None)


async def raw(proxy: ReverseProxy, target: str, *lines: str, token: bool = True) -> RawAnswer:
    """The answer to a request that no library tidies up, by TLS."""
    context = ssl.create_default_context(cafile=str(proxy.ca))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        proxy.port,
        ssl=context,
        server_hostname="localhost",
        local_addr=("127.0.0.9", 0),
    )
    try:
        writer.write(request(target, *lines, host=f"localhost:{proxy.port}", token=token))
        await writer.drain()
        async with asyncio.timeout(WAIT_SECONDS):
            received = await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
    return answers(received)[0]


@pytest.mark.usefixtures("served")
async def test_the_links_lead_on(proxy: ReverseProxy, app: aiohttp.ClientSession) -> None:
    """From discovery to an image, by the URLs that answers have in them alone."""
    statement = await got(app, f"{proxy.url}/fhir/metadata")
    assert statement["implementation"]["url"] == f"{proxy.url}/fhir"
    assert await got(app, f"{proxy.url}/fhir/.well-known/smart-configuration")
    url, found, roots = proxy.url + SEARCH, [], []
    while url:
        bundle = await got(app, url)
        for entry in bundle["entry"]:
            assert entry["fullUrl"].startswith((proxy.url + "/fhir/", "urn:uuid:"))
            resource = entry["resource"]
            if resource["resourceType"] == "Endpoint":
                roots.append(resource["address"])
            else:
                found.append(resource["id"])
        url = next((one["url"] for one in bundle["link"] if one["relation"] == "next"), "")
    assert sorted(found) == sorted(INSTANCES)
    assert all(root.startswith(proxy.url + "/capability/") for root in roots)
    for root in (
        *roots,
        f"{proxy.url}/wado-rs",
        f"{proxy.url}/fhir/Patient/{PATIENT}/$wado-rs",
        f"{proxy.url}/fhir/Patient/{PATIENT}/%24wado-rs",
    ):
        for study in await got(app, f"{root}/studies"):
            address = study["00081190"]["Value"][0]
            assert address.startswith(root.replace("%24", "$") + "/studies/")
            assert await got(app, address + "/series")


@pytest.mark.usefixtures("served")
async def test_a_study_comes_whole(proxy: ReverseProxy, app: aiohttp.ClientSession) -> None:
    """As multipart, and as a ZIP."""
    url = f"{proxy.url}/wado-rs/studies/{STUDY}"
    async with app.get(url, headers={"Accept": MULTIPART}) as answer:
        assert answer.status == 200
        body = await answer.read()
    assert all(instance(STUDY, number) in body for number in range(INSTANCES[STUDY]))
    async with app.get(url, headers={"Accept": "application/zip"}) as answer:
        assert answer.content_type == "application/zip"
        with ZipFile(io.BytesIO(await answer.read())) as saved:
            hashes = {hashlib.sha256(saved.read(name)).digest() for name in saved.namelist()}
    files = [instance(STUDY, number) for number in range(INSTANCES[STUDY])]
    assert hashes == {hashlib.sha256(one).digest() for one in files}


@pytest.mark.usefixtures("served")
async def test_other_forms_come_too(proxy: ReverseProxy, app: aiohttp.ClientSession) -> None:
    """HEAD, and an instance in the form of older viewers."""
    async with app.head(proxy.url + SEARCH) as head:
        assert (head.status, await head.read()) == (200, b"")
        assert head.headers["X-Request-Id"]
    query = f"requestType=WADO&studyUID={OTHER}&seriesUID={OTHER}.1&objectUID={OTHER}.1.0"
    async with app.get(f"{proxy.url}/wado-uri?{query}&contentType=application/dicom") as answer:
        assert answer.status == 200
        assert await answer.read() == instance(OTHER, 0)


@pytest.mark.usefixtures("served")
async def test_the_first_bytes_come_before_the_last_are_made(
    proxy: ReverseProxy, archive: Archive, app: aiohttp.ClientSession
) -> None:
    archive.may_go_on.clear()
    url = f"{proxy.url}/wado-rs/studies/{STUDY}"
    async with app.get(url, headers={"Accept": MULTIPART}) as answer:
        first = await answer.content.readexactly(100_000)
        assert archive.sent < 2 * len(instance(STUDY, 0))
        archive.may_go_on.set()
        rest = await answer.read()
    assert len(first + rest) > sum(len(instance(STUDY, n)) for n in range(INSTANCES[STUDY]))


@pytest.mark.usefixtures("served")
async def test_a_client_that_does_not_read_holds_the_archive_back(
    proxy: ReverseProxy, archive: Archive, app: aiohttp.ClientSession
) -> None:
    """And one that leaves ends its retrieval."""
    url = f"{proxy.url}/wado-rs/studies/{LARGE}"
    async with app.get(url, headers={"Accept": MULTIPART}) as answer:
        await answer.content.readexactly(100_000)
        before = -1

        async def stands() -> bool:
            nonlocal before
            before, now = archive.sent, before
            await asyncio.sleep(1)
            return now == archive.sent

        await wait_until_async("the archive waits", stands)
        assert 0 < archive.sent < IN_FLIGHT
        answer.close()
    async with asyncio.timeout(WAIT_SECONDS):
        await archive.left.wait()


@pytest.mark.usefixtures("served")
async def test_refusals_reach_the_app_as_they_are(
    proxy: ReverseProxy, app: aiohttp.ClientSession
) -> None:
    foreign = f"{proxy.path}/wado-rs/studies/9.9.9"
    for answer, status in (
        (await raw(proxy, f"{proxy.path}{SEARCH}", token=False), 401),
        (await raw(proxy, foreign), 404),
        (await raw(proxy, f"{proxy.path}/fhir/ImagingStudy?patient=p2"), 403),
        (await raw(proxy, f"{proxy.path}{SEARCH}", "Content-Encoding: gzip"), 415),
        (await raw(proxy, f"{proxy.path}/fhir/metadata?a=" + "a" * 8_000), 414),
        (await raw(proxy, f"{proxy.path}/fhir/metadata?a=" + "a" * 7_000), 200),
    ):
        assert answer.status == status
        assert answer.header("x-request-id")
        assert status == 200 or b"OperationOutcome" in answer.body
        assert (answer.header("www-authenticate") is not None) == (status == 401)
    for path in ("/metrics", "/healthz", "/readyz", "/admin/invalidate"):
        for base in {"", proxy.path}:
            assert (await raw(proxy, base + path)).status == 404
    url = f"{proxy.url}/fhir/ImagingStudy/_search"
    async with app.post(url, data={"patient": PATIENT, "_count": "1"}) as good:
        assert good.status == 200
    async with app.post(url, data={"patient": "x" * 70_000}) as large:
        assert large.status == 413
    preflight = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "GET"}
    async with app.options(proxy.url + SEARCH, headers=preflight) as allowed:
        assert allowed.status == 200
        assert "Access-Control-Allow-Origin" in allowed.headers
    token = {"Authorization": "Bearer " + "t" * 8_183}
    async with app.get(proxy.url + SEARCH, headers=token) as answered:
        assert (answered.status, "X-Request-Id" in answered.headers) == (200, True)
    longest = f"{proxy.url}/fhir/metadata?a=" + "a" * 7_900
    async with app.get(longest, headers=token) as answered:
        assert (answered.status, "X-Request-Id" in answered.headers) == (200, True)


async def test_a_slow_archive_is_a_503_with_retry_after(
    proxy: ReverseProxy, archive: Archive, app: aiohttp.ClientSession, tmp_path: Path
) -> None:
    archive.may_begin.clear()
    url = f"{proxy.url}/wado-rs/studies/{STUDY}"
    async with sidecar_behind(proxy, archive, tmp_path, defer_after_seconds=1):
        async with app.get(url, headers={"Accept": MULTIPART}) as refused:
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) >= 1
        archive.may_begin.set()
        async with app.get(url, headers={"Accept": MULTIPART}) as answer:
            assert answer.status == 200
            assert await answer.read()


@pytest.mark.parametrize(
    "made_by", [pytest.param(one, id=one.name, marks=mark(one)) for one in PROGRAMS]
)
async def test_an_answer_may_take_longer_than_a_request(
    made_by: Program, archive: Archive, tmp_path: Path
) -> None:
    """The time in which a request must come, 15 s, is 3 s here."""
    archive.may_go_on.clear()
    with reverse_proxy(made_by, "own host", {"15s": "3s"}) as proxy:
        async with sidecar_behind(proxy, archive, tmp_path), connected(proxy) as app:
            url = f"{proxy.url}/wado-rs/studies/{STUDY}"
            async with app.get(url, headers={"Accept": MULTIPART}) as answer:
                await answer.content.readexactly(100_000)
                await asyncio.sleep(5)
                archive.may_go_on.set()
                assert len(await answer.read()) > 3 * len(instance(STUDY, 0))


@pytest.mark.usefixtures("served")
async def test_the_trail_has_the_clients_address(
    proxy: ReverseProxy, app: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Whatever the client writes."""
    forged = [
        {},
        {"X-Forwarded-For": "6.6.6.6"},
        {"Forwarded": "for=6.6.6.6"},
        {"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "Forwarded": 'for="6.6.6.6'},
        {"Connection": "X-Forwarded-For, keep-alive"},
    ]
    for headers in forged:
        async with app.get(proxy.url + SEARCH, headers=headers) as answer:
            assert answer.status == 200
    told = [event["agent"][0]["network"]["address"] for event in events(tmp_path / "trail")]
    assert told == ["127.0.0.9"] * len(forged)


@contextlib.asynccontextmanager
async def recorder(port: int) -> AsyncIterator[list[str]]:
    """Answer any request in the place of a sidecar; yields the heads as they came."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    async with stream_server(answer, port=port):
        yield heads


def normalized(target: str) -> str:
    """The target by RFC 3986 6.2.2.1 and 6.2.2.2."""
    path, mark, query = target.partition("?")

    def escape(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        is_unreserved = character.isascii() and (character.isalnum() or character in "-._~")
        return character if is_unreserved else found[0].upper()

    return re.sub(r"%([0-9A-Fa-f]{2})", escape, path) + mark + query


async def test_targets_go_on_as_they_are_written(proxy: ReverseProxy) -> None:
    """Or they are refused: nothing comes in another spelling."""
    kept = "" if proxy.way == "stripped" else proxy.path
    async with recorder(proxy.upstream) as heads:
        for target, may_be_refused in TARGETS.items():
            heads.clear()
            answer = await raw(proxy, proxy.path + target)
            seen = [head.split(" ")[1] for head in heads]
            expected = normalized(target) if proxy.program.normalizes else target
            if seen or not may_be_refused:
                assert seen == [kept + expected]
            else:
                assert answer.status in (400, 404), target


async def test_what_a_client_says_of_its_way_goes_no_further(proxy: ReverseProxy) -> None:
    async with recorder(proxy.upstream) as heads:
        await raw(
            proxy,
            f"{proxy.path}/fhir/metadata",
            "X-Forwarded-For: 6.6.6.6",
            "x-forwarded-for: 6.6.6.7",
            "X-Forwarded-Host: evil.example.org",
            "X-Forwarded-Proto: gopher",
            "Forwarded: for=6.6.6.6;host=evil.example.org",
        )
    (head,) = heads
    lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
    fields = [(name.lower(), value) for name, _, value in lines if name]
    assert len(dict(fields)) == len(fields)
    own = f"localhost:{proxy.port}"
    assert {
        name: value for name, value in fields if "forwarded-" in name or name == "host"
    }.items() >= {
        "x-forwarded-for": "127.0.0.9",
        "x-forwarded-host": own,
        "x-forwarded-proto": "https",
        "host": own,
    }.items()
    assert "evil" not in head
    assert "6.6.6" not in head
    assert ("accept-encoding" in dict(fields)) == proxy.program.normalizes


@pytest.mark.parametrize("target", [f"{PATH}/../fhir/metadata", "/fhir/metadata", f"{PATH}x/fhir"])
async def test_only_what_is_below_the_path_comes(proxy: ReverseProxy, target: str) -> None:
    """What else the host has is not ours. A host of our own has nothing else."""
    async with recorder(proxy.upstream) as heads:
        answer = await raw(proxy, target)
    # HAProxy and Traefik compare what the client wrote, which the sidecar refuses.
    assert [head.split(" ")[1] for head in heads] in ([], [target], ["/../fhir/metadata"])
    assert heads or answer.status == 404


async def test_http_2(proxy: ReverseProxy, archive: Archive, tmp_path: Path) -> None:
    curl = installed(shutil.which("curl"), "no curl: apt-get install curl")
    saved = tmp_path / "saved"
    url = f"{proxy.url}/wado-rs/studies/{STUDY}"
    command = [curl, "-sS", "--http2", "--cacert", str(proxy.ca), "-o", str(saved)]
    command += ["-H", f"Authorization: Bearer {TOKEN}", "-H", f"Accept: {MULTIPART}"]
    async with sidecar_behind(proxy, archive, tmp_path):
        process = await asyncio.create_subprocess_exec(
            *command, "-w", "%{http_version} %{http_code}", url, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert output == b"2 200"
    assert instance(STUDY, 3) in saved.read_bytes()


async def test_a_sidecar_that_was_away_is_found_and_nothing_is_told(
    proxy: ReverseProxy, archive: Archive, app: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """At once, and without a reload. What proxies write names neither a patient nor a token."""
    targets = [SEARCH + f"&patient={PATIENT}&identifier=secret", f"/wado-rs/studies/{STUDY}"]
    for target in targets:
        async with app.get(proxy.url + target) as away:
            assert away.status in (502, 503, 504)
    async with sidecar_behind(proxy, archive, tmp_path):
        for target in targets:
            async with app.get(proxy.url + target) as back:
                assert back.status == 200
    for told in (TOKEN, STUDY, "secret", "/fhir", "/wado-rs"):
        assert told not in proxy.written().replace(proxy.url, "")


def test_every_file_is_run() -> None:
    """Of the folder, in one way or the other."""
    files = {file for one in PROGRAMS for file in (*one.files.values(), *one.below.values())}
    folder = Path(__file__).parents[2] / "config" / "proxies"
    assert files == {file.name for file in folder.iterdir()}
