"""What HTTP lets a request look like, and what pages of other origins see of the answers (RFC 9110,
9112; Fetch).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from sidecar.server.listener import listen
from sidecar.tokens.bearer import MAXIMUM_LENGTH
from sidecar.web.connection import MAXIMUM_HEADER_BYTES
from tests.attacks.raw import RawAnswer, answers, request, send
from tests.attacks.row import OWN
from tests.fakes.archive import INSTANCE, SERIES, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import sidecar_between

SEARCH = "/fhir/ImagingStudy"
FORM = "Content-Type: application/x-www-form-urlencoded"
ORIGIN = "https://viewer.example.org"


@pytest.fixture
async def world() -> AsyncIterator[tuple[int, ScriptedPacs]]:
    """The port of a sidecar whose public URL is http://sidecar.example.org, and the archive behind
    it.
    """
    pacs = ScriptedPacs(GOOD["chunked"])
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _):
        yield int(url.rpartition(":")[2]), pacs


async def ask(port: int, data: bytes) -> RawAnswer:
    (found,) = answers(await send(port, data))
    return found


ABSOLUTE: dict[str, tuple[str, int]] = {
    "our own": (f"http://sidecar.example.org{SEARCH}", 200),
    "our own, TLS ended before us": (f"https://sidecar.example.org{SEARCH}", 200),
    "our own in capitals": (f"HTTP://Sidecar.Example.ORG{SEARCH}", 200),
    "our own with its port": (f"http://sidecar.example.org:80{SEARCH}", 200),
    "our own with a query": (f"http://sidecar.example.org{SEARCH}?_count=1", 200),
    "another port": (f"http://sidecar.example.org:8042{SEARCH}", 400),
    "the other scheme's port": (f"http://sidecar.example.org:443{SEARCH}", 400),
    "another host": (f"http://pacs.example.org{SEARCH}", 400),
    "a host that begins like ours": (f"http://sidecar.example.org.evil.example.org{SEARCH}", 400),
    "a host that ends like ours": (f"http://x.sidecar.example.org{SEARCH}", 400),
    "a user": (f"http://evil@sidecar.example.org{SEARCH}", 400),
    "our host as a user": (f"http://sidecar.example.org@pacs.example.org{SEARCH}", 400),
    "a dot behind it": (f"http://sidecar.example.org.{SEARCH}", 400),
    "another scheme": (f"ftp://sidecar.example.org{SEARCH}", 400),
    "no path": ("http://sidecar.example.org", 400),
    "no host": (f"http://{SEARCH}", 400),
    "dots": (f"http://sidecar.example.org/x/..{SEARCH}", 404),
    "a backslash": (f"http://sidecar.example.org\\@pacs.example.org{SEARCH}", 400),
}


@pytest.mark.parametrize("what", ABSOLUTE)
async def test_a_target_in_absolute_form(world: tuple[int, ScriptedPacs], what: str) -> None:
    """RFC 9112 3.2.2: a server MUST accept it; this one is nobody's proxy."""
    target, status = ABSOLUTE[what]
    answer = await ask(world[0], request(target))
    assert answer.status == status
    if status == 200:
        assert f"http://sidecar.example.org{SEARCH}?" in orjson.loads(answer.body)["link"][0]["url"]
    else:
        assert world[1].requests == []


EMPTY: dict[str, tuple[list[str], int]] = {
    "no body at all": ([], 200),
    "no body, and its length": (["Content-Length: 0"], 200),
    "no body, and its type": ([FORM, "Content-Length: 0"], 200),
    "no body of another type": (["Content-Type: application/json", "Content-Length: 0"], 200),
}


@pytest.mark.parametrize("what", EMPTY)
async def test_a_search_by_post_may_have_no_body(
    world: tuple[int, ScriptedPacs], what: str
) -> None:
    """R4 http.html#search: its parameters may all stand in the URL."""
    lines, status = EMPTY[what]
    answer = await ask(
        world[0], request(f"{SEARCH}/_search?patient={PATIENT}", *lines, method="POST")
    )
    assert answer.status == status
    assert orjson.loads(answer.body)["total"] == 1


async def test_a_body_of_another_type_is_refused(world: tuple[int, ScriptedPacs]) -> None:
    """R4 http.html#search: the body of a search is form-encoded."""
    json = "Content-Type: application/json"
    answer = await ask(world[0], request(f"{SEARCH}/_search", json, method="POST", body=b"{}"))
    assert answer.status == 415
    assert orjson.loads(answer.body)["issue"][0]["code"] == "not-supported"


async def test_the_longest_access_token(world: tuple[int, ScriptedPacs]) -> None:
    """A longer one does not fit the longest value of a header, which is a limit of its own."""
    for length, status in ((MAXIMUM_LENGTH, 200), (MAXIMUM_LENGTH + 1, 431)):
        line = "Authorization: Bearer " + "a" * length
        answer = await ask(world[0], request(SEARCH, line, token=False))
        assert (length, answer.status) == (length, status)
    for length, status in ((MAXIMUM_HEADER_BYTES, 200), (MAXIMUM_HEADER_BYTES + 1, 431)):
        answer = await ask(world[0], request(SEARCH, "X: " + "x" * length))
        assert (length, answer.status) == (length, status)


TAGS: dict[str, tuple[str, int]] = {
    "whatever there is": ("*", 304),
    "whatever, with spaces": (" * ", 304),
    "another": ('"x"', 200),
    "a star in a tag": ('"*"', 200),
    "a star among tags": ('"x", *', 200),
}


@pytest.mark.parametrize("what", TAGS)
@pytest.mark.parametrize("target", [SEARCH, "/fhir/metadata"])
async def test_if_none_match(world: tuple[int, ScriptedPacs], what: str, target: str) -> None:
    """RFC 9110 13.1.2: ``*`` is fulfilled by nothing that is there."""
    value, status = TAGS[what]
    assert (await ask(world[0], request(target, f"If-None-Match: {value}"))).status == status


# The request, its status. What is refused before any handler has CORS headers, too: else a page
# sees no status.
EARLY: dict[str, tuple[bytes, int]] = {
    "a header that is too long": (request(SEARCH, "X: " + "x" * 9_000, f"Origin: {ORIGIN}"), 431),
    "a target that is too long": (request(SEARCH + "?x=" + "x" * 9_000, f"Origin: {ORIGIN}"), 414),
    "an expectation": (request(SEARCH, "Expect: a-miracle", f"Origin: {ORIGIN}"), 417),
    "an expectation of a preflight": (
        request(SEARCH, "Expect: a-miracle", f"Origin: {ORIGIN}", method="OPTIONS"),
        417,
    ),
    "a body": (request(SEARCH, f"Origin: {ORIGIN}", body=b"x"), 400),
}


@pytest.mark.parametrize("what", EARLY)
async def test_what_is_refused_early_is_an_outcome_that_pages_can_read(
    world: tuple[int, ScriptedPacs], what: str
) -> None:
    data, status = EARLY[what]
    answer = await ask(world[0], data)
    assert answer.status == status
    assert answer.header("content-type") == "application/fhir+json; charset=utf-8"
    assert orjson.loads(answer.body)["resourceType"] == "OperationOutcome"
    assert b"miracle" not in answer.body
    assert answer.header("access-control-allow-origin") in ("*", ORIGIN)
    assert answer.header("access-control-allow-credentials") is None
    assert "X-Request-Id" in (answer.header("access-control-expose-headers") or "")
    assert answer.header("x-request-id")


ORIGINS: dict[str, tuple[list[str], str, str | None, str | None]] = {
    # cors_origins, the page's; what a refusal says whose request could be read, and whose could
    # not.
    "any": (["*"], ORIGIN, "*", "*"),
    "the only one": ([ORIGIN], ORIGIN, ORIGIN, ORIGIN),
    "one of two": ([ORIGIN, "https://other.example.org"], ORIGIN, ORIGIN, None),
    "another": ([ORIGIN], "https://evil.example.org", None, ORIGIN),
    "none": ([], ORIGIN, None, None),
}


@pytest.mark.parametrize("what", ORIGINS)
async def test_which_origin_may_read_a_refusal(what: str) -> None:
    """Of a request that could not be read the origin is unknown: then the only one that there can
    be is named.
    """
    origins, origin, read, unread = ORIGINS[what]
    server = {"cors_origins": origins}
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(GOOD["chunked"]), server=server) as (
        url,
        _,
    ):
        port = int(url.rpartition(":")[2])
        answer = await ask(port, request(SEARCH, "Expect: x", f"Origin: {origin}"))
        assert (answer.status, answer.header("access-control-allow-origin")) == (417, read)
        answer = await ask(port, request(SEARCH, "X: " + "x" * 9_000, f"Origin: {origin}"))
        assert (answer.status, answer.header("access-control-allow-origin")) == (431, unread)


async def test_other_applications_have_no_cors() -> None:
    """The admin port."""
    async with listen(web.Application(), "127.0.0.1", 0) as port:
        answer = await ask(port, request("/", "Expect: x", f"Origin: {ORIGIN}"))
        assert (answer.status, answer.header("access-control-allow-origin")) == (417, None)


async def test_a_client_that_asks_may_go_on(world: tuple[int, ScriptedPacs]) -> None:
    """RFC 9110 10.1.1."""
    data = request(
        f"{SEARCH}/_search", FORM, "Expect: 100-continue", method="POST", body=b"modality=CT"
    )
    received = await send(world[0], data)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "name", ["Content-Range", "Accept-Ranges", "Content-Length", "Warning", "ETag", "Retry-After"]
)
async def test_pages_can_read_the_headers_that_they_need(
    world: tuple[int, ScriptedPacs], name: str
) -> None:
    answer = await ask(world[0], request(OWN, f"Origin: {ORIGIN}"))
    assert answer.status == 200
    assert name in (answer.header("access-control-expose-headers") or "").split(",")


RANGES: dict[str, tuple[str, bytes, bytes, Any]] = {
    # resource, what the archive sends -> Accept-Ranges of our answer.
    "bulk data": ("/bulkdata/7FE00010", b"application/octet-stream", b"bytes", "bytes"),
    "bulk data without": ("/bulkdata/7FE00010", b"application/octet-stream", b"none", "none"),
    "a unit that we do not know": (
        "/bulkdata/7FE00010",
        b"application/octet-stream",
        b"lines",
        None,
    ),
    "an image": ("/rendered", b"image/jpeg", b"bytes", "bytes"),
    # Whose it is can be read from the beginning alone: no Range goes to the archive.
    "an instance": ("", b"application/dicom", b"bytes", None),
}


@pytest.mark.parametrize("what", RANGES)
async def test_what_the_archive_says_of_ranges_is_kept_where_we_heed_them(what: str) -> None:
    resource, content_type, said, expected = RANGES[what]

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nAccept-Ranges: %b\r\n"
            b"Content-Length: 5\r\n\r\nhello"
        )
        writer.write(head % (content_type, said))

    pacs = ScriptedPacs(write, inside=None if resource == "" else PATIENT)
    settings = {"verify_instances": bool(resource)}
    async with sidecar_between(ScriptedEhr(), pacs, pacs=settings) as (url, _):
        path = f"{OWN}/series/{SERIES}/instances/{INSTANCE}{resource}"
        accept = f"Accept: {content_type.decode()}"
        answer = await ask(int(url.rpartition(":")[2]), request(path, accept))
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.header("accept-ranges") == expected
