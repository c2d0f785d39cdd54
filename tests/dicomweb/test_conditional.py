"""Conditional and range requests, ``accept=`` in the query, and what of headers passes in either
direction.
"""

import asyncio

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.dicomweb.conditional import to_client, to_pacs
from sidecar.dicomweb.paths import OBJECTS, Kind
from tests.fakes.archive import INSTANCE, SERIES, Answer, ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import GOOD, PATH, answer
from tests.fakes.site import HEADERS, sidecar_between

ETAG, DATE = '"abc-1"', "Tue, 24 Nov 2026 10:11:12 GMT"
BULKDATA = f"{PATH}/series/{SERIES}/instances/{INSTANCE}/bulkdata/7FE00010"
RENDERED = f"{PATH}/series/{SERIES}/instances/{INSTANCE}/rendered"


def pacs_of(*pairs: tuple[str, str], kind: Kind = Kind.BULKDATA) -> dict[str, str]:
    return to_pacs(CIMultiDictProxy(CIMultiDict(pairs)), kind)


def test_conditions_pass() -> None:
    for kind in Kind:
        assert pacs_of(("if-none-match", ETAG), ("If-Modified-Since", DATE), kind=kind) == {
            "If-None-Match": ETAG,
            "If-Modified-Since": DATE,
        }


@pytest.mark.parametrize("value", ["bytes=0-9", "bytes=5-", "bytes=-5"])
def test_one_range_passes_where_nothing_has_to_be_verified(value: str) -> None:
    for kind in Kind:
        verified = kind in OBJECTS or kind is Kind.METADATA
        assert pacs_of(("Range", value), ("If-Range", ETAG), kind=kind) == (
            {} if verified else {"Range": value, "If-Range": ETAG}
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Range", "bytes=0-1,2-3"),
        ("Range", "bytes=a-b"),
        ("Range", "lines=1-2"),
        ("Range", "bytes=-"),
        ("Range", "bytes=0-9\r\nX: y"),
        ("If-None-Match", "abc"),
        ("If-None-Match", '"a"b"'),
        ("If-None-Match", '"\x01"'),
        ("If-None-Match", ", ".join([ETAG] * 11)),
        ("If-None-Match", '"' + "x" * 300 + '"'),
        ("If-Modified-Since", "yesterday"),
        ("If-Match", ETAG),
        ("If-Unmodified-Since", DATE),
        ("Authorization", "Bearer x"),
        ("Cookie", "a=b"),
        ("If-Range", ETAG),
        ("X-Forwarded-For", "1.2.3.4"),
        ("TE", "trailers"),
        ("Accept-Encoding", "gzip"),
    ],
)
def test_anything_else_does_not_pass(name: str, value: str) -> None:
    assert pacs_of((name, value)) == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Range", "If-Range", "If-None-Match", "ETag", "X-Y"]),
            st.text(max_size=30),
        )
    )
)
def test_any_headers(pairs: list[tuple[str, str]]) -> None:
    for name, value in pacs_of(*pairs).items():
        assert value.isascii()
        assert value.isprintable()
        assert [one for one, _ in pairs].count(name) == 1


def test_only_validators_come_back() -> None:
    headers = {
        "ETag": ETAG,
        "Last-Modified": DATE,
        "Content-Range": "bytes 0-9/100",
        "Set-Cookie": "a=b",
        "Server": "pacs",
        "Via": "1.1 pacs",
        "Location": "http://pacs/",
        "Access-Control-Allow-Origin": "*",
    }
    assert to_client(headers, partial=False) == {"ETag": ETAG, "Last-Modified": DATE}
    assert "Content-Range" in to_client(headers, partial=True)
    assert to_client({"ETag": "http://pacs/"}, partial=False) == {}


async def test_not_modified() -> None:
    reply = b"HTTP/1.1 304 Not Modified\r\nETag: " + ETAG.encode() + b"\r\nSet-Cookie: a=b\r\n\r\n"

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    pacs = ScriptedPacs(write)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        async with client.get(url + PATH, headers={"If-None-Match": ETAG}) as response:
            assert response.status == 304
            assert response.headers["ETag"] == ETAG
            assert "Set-Cookie" not in response.headers
        assert f"If-None-Match: {ETAG}" in pacs.heads[-1]
        # Not asked for, it is no answer.
        async with client.get(url + PATH) as response:
            assert response.status == 502


PARTIAL: dict[str, tuple[bytes, bytes, int]] = {
    "asked for": (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\n",
        b"bytes=0-4",
        206,
    ),
    "the whole instead": (b"HTTP/1.1 200 OK\r\n", b"bytes=0-4", 200),
    "not asked for": (b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\n", b"", 502),
    "without its place": (b"HTTP/1.1 206 Partial Content\r\n", b"bytes=0-4", 502),
    "none": (b"HTTP/1.1 416 Range Not Satisfiable\r\n", b"bytes=90-99", 416),
}


@pytest.mark.parametrize("case", PARTIAL)
async def test_ranges(case: str) -> None:
    """Of bulk data; a 206 that was not asked for is a partial answer that looks whole."""
    head, asked, status = PARTIAL[case]

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            head + b"Content-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\nhello"
        )

    headers = (
        HEADERS
        | {"Accept": "application/octet-stream"}
        | ({"Range": asked.decode()} if asked else {})
    )
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(write)) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(url + BULKDATA, headers=headers) as response,
    ):
        assert response.status == status
        assert ("Content-Range" in response.headers) == (status == 206)
        if status < 300:
            assert await response.read() == b"hello"


async def test_accept_in_the_query() -> None:
    """PS3.18 8.3.3.1: for pages that cannot set headers; it comes before the header and goes no
    further.
    """
    pacs = ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        query = "?accept=multipart/related;type=%22application/dicom%22;transfer-syntax=*"
        async with client.get(url + PATH + query, headers={"Accept": "text/html"}) as response:
            assert response.status == 200
        assert "accept=" not in pacs.requests[-1]
        for wrong, status in (
            ("?accept=application/pdf", 406),
            ("?accept=*/*&accept=*/*", 400),
            ("?accept=x", 400),
        ):
            async with client.get(url + PATH + wrong) as response:
                assert response.status == status
        async with client.get(url + "/wado-rs/studies?accept=application/dicom%2Bjson") as response:
            assert response.status == 200


HOSTILE_HEADERS = (
    b"Set-Cookie: pacs=1\r\nServer: Orthanc\r\nWWW-Authenticate: Basic\r\n"
    b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
    b"X-Powered-By: pacs\r\nLocation: http://pacs/\r\nLink: <http://pacs/>\r\n"
    b"Content-Disposition: inline; filename=name.html\r\nContent-Location: http://pacs/x\r\n"
    b"Refresh: 0; url=http://pacs\r\nContent-Security-Policy: default-src *\r\n"
    b"Referrer-Policy: unsafe-url\r\nClear-Site-Data: *\r\n"
)
OURS = {
    "content-type",
    "content-length",
    "transfer-encoding",
    "date",
    "server",
    "x-request-id",
    "cache-control",
    "vary",
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "content-disposition",
    "connection",
    "access-control-allow-origin",
    "access-control-expose-headers",
}

DRAWN: dict[str, Answer] = {
    kind: answer(
        b"Content-Type: %s\r\nContent-Length: 5\r\n" % kind.encode() + HOSTILE_HEADERS, b"hello"
    )
    for kind in ("image/png", "application/pdf", "video/mp4")
}


@pytest.mark.parametrize("kind", DRAWN)
async def test_headers_of_the_pacs_do_not_pass(kind: str) -> None:
    """And what is drawn is harmless when a browser opens it: no script, no guessing of types, no
    frame.
    """
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(DRAWN[kind])) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(
            url + RENDERED, headers={"Accept": "*/*", "Origin": "https://app.example.com"}
        ) as response,
    ):
        assert response.status == 200
        assert {name.lower() for name in response.headers} <= OURS
        whole = repr(response.headers)
        for word in ("Orthanc", "pacs", "Basic", "unsafe-url", "default-src *", "name.html"):
            assert word not in whole
        assert "sandbox" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert (response.headers.get("Content-Disposition") == "attachment") == (
            kind == "application/pdf"
        )


async def test_headers_of_the_client_do_not_pass() -> None:
    pacs = ScriptedPacs(GOOD["chunked"])
    sent = HEADERS | {
        "Cookie": "session=1",
        "X-Forwarded-For": "1.2.3.4",
        "Forwarded": "for=1.2.3.4",
        "Proxy-Authorization": "Basic x",
        "Accept-Encoding": "gzip",
        "Accept-Language": "de",
        "User-Agent": "browser",
        "Referer": "https://app/",
        "X-Custom": "1",
        "Origin": "https://app.example.com",
        "Via": "1.1 x",
        "Connection": "X-Custom",
    }
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(url + PATH, headers=sent) as response,
    ):
        assert response.status == 200
    for head in pacs.heads:
        names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
        assert names <= {"host", "accept", "accept-encoding", "user-agent"}
        assert "browser" not in head
