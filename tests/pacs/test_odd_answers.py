"""What archives answer, and what the client gets: the table is the specification."""

import contextlib
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import aiohttp
import pytest
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy

from sidecar.server import Sidecar
from tests.common.peer import all_that_is_said
from tests.pacs.odd_archive import PATHS, OddArchive, Sent
from tests.upstreams import TOKEN, ScriptedEhr, sidecar_between

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OK, RESET = 200, 0
Got = tuple[int, dict[str, str], bytes]


@pytest.fixture(params=[HttpResponseParser, HttpResponseParserPy], ids=["compiled", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of aiohttp's parsers of answers."""
    monkeypatch.setattr(aiohttp.client_proto, "HttpResponseParser", request.param)


@contextlib.asynccontextmanager
async def asking(archive: OddArchive) -> AsyncIterator[tuple[Callable[..., Awaitable[Got]], Sidecar]]:
    """Yields what asks the sidecar for one of ``PATHS``; an answer that breaks off has the status ``RESET``."""

    async def ask(kind: str, **headers: str) -> Got:
        async with session.get(url + "/wado-rs" + PATHS.get(kind, kind), headers=HEADERS | headers) as response:
            try:
                return response.status, dict(response.headers), await response.read()
            except aiohttp.ClientError:
                return RESET, dict(response.headers), b""

    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, sidecar), aiohttp.ClientSession() as session,
    ):  # fmt: skip
        yield ask, sidecar


def coded(answer: Sent, coding: str, body: bytes | None = None, **more: object) -> Sent:
    made = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}.get(coding, bytes)
    lines = (("Content-Encoding", coding), ("ETag", '"encoded"'), ("Accept-Ranges", "bytes"))
    return replace(answer, body=made(answer.body) if body is None else body, more=lines, **more)  # type: ignore[arg-type]


def zipped(answer: Sent) -> bytes:
    return gzip.compress(answer.body)


ENCODED: dict[str, tuple[Callable[[Sent], Sent], int]] = {
    "gzip": (lambda one: coded(one, "gzip"), OK),
    "GZIP": (lambda one: coded(one, "GZIP", zipped(one)), OK),
    "x-gzip": (lambda one: coded(one, "x-gzip"), OK),
    "deflate": (lambda one: coded(one, "deflate"), OK),
    "gzip in chunks": (lambda one: coded(one, "gzip", framing="chunked"), OK),
    "gzip and identity": (lambda one: coded(one, "identity, gzip", zipped(one)), OK),
    "two members": (
        lambda one: coded(one, "gzip", gzip.compress(one.body[:9]) + gzip.compress(one.body[9:])), OK,
    ),
    "identity by name": (lambda one: coded(one, "identity"), OK),
    "cut": (lambda one: coded(one, "gzip", zipped(one)[:-9]), 502),
    "a member is cut": (lambda one: coded(one, "gzip", zipped(one) + zipped(one)[:9]), 502),
    "garbage behind it": (lambda one: coded(one, "gzip", zipped(one) + b"garbage"), 502),
    "a wrong checksum": (lambda one: coded(one, "gzip", zipped(one)[:-8] + bytes(8)), 502),
    "not gzip at all": (lambda one: coded(one, "gzip", one.body), 502),
    "deflate without zlib's head": (lambda one: coded(one, "deflate", zlib.compress(one.body)[2:-4]), 502),
    "br": (lambda one: coded(one, "br"), 502),
    "zstd": (lambda one: coded(one, "zstd"), 502),
    "unknown": (lambda one: coded(one, "a-secret"), 502),
    "twice": (lambda one: coded(one, "gzip, gzip", gzip.compress(zipped(one))), 502),
}  # fmt: skip


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("case", ENCODED)
async def test_encoded_answers(case: str) -> None:
    """RFC 9110 8.4: what is decoded leaves as what it was before, without a length or tag of the encoded form."""
    odd, status = ENCODED[case]
    archive = OddArchive()
    async with asking(archive) as (ask, _):
        plain = {kind: await ask(kind) for kind in PATHS}
        assert {one[0] for one in plain.values()} == {OK}
        for kind in PATHS:
            archive.odd = lambda answer, kind=kind: odd(answer) if answer.kind == kind else answer
            found, headers, body = await ask(kind)
            if status != OK:
                assert found in (status, RESET), kind
                continue
            assert (found, body) == (OK, plain[kind][2]), kind
            assert "Content-Encoding" not in headers
            assert headers.get("Content-Length", str(len(body))) == str(len(body))
            assert case == "identity by name" or not {"ETag", "Accept-Ranges"} & set(headers)


@pytest.mark.parametrize(
    ("coding", "detail"),
    [("br", "br"), ("zstd", "zstd"), ("a-secret", "unknown"), ("gzip, gzip", "several"), ("gzip", "malformed")],
)
async def test_the_log_names_the_encoding(coding: str, detail: str, caplog: pytest.LogCaptureFixture) -> None:
    archive = OddArchive()
    async with asking(archive) as (ask, _):
        for kind in ("list", "metadata"):
            archive.odd = lambda answer, kind=kind: coded(answer, coding, b"x") if answer.kind == kind else answer
            assert (await ask(kind))[0] == 502
    named = [vars(record).get("detail") or vars(record).get("reason") for record in caplog.records]
    assert detail in named
    assert named.count(detail) == 2 or "pacs_encoded_malformed" in named
    assert "secret" not in all_that_is_said(caplog)


BOMBS: dict[str, Callable[[Sent], bytes]] = {
    "white space": lambda answer: b"[" + b" " * 70_000_000,
    "rows": lambda answer: b"[" + answer.body[1:-1] + (b"," + answer.body[1:-1]) * 25_000 + b"]",
    "empty members": lambda answer: b"",
    "before the first part": lambda answer: bytes(70_000_000),
}


@pytest.mark.parametrize("case", BOMBS)
async def test_a_bomb_is_refused(case: str) -> None:
    """What is too much ends it, as it does for what comes as it is; ``tests/stalls.py`` reports the longest stall."""
    def odd(answer: Sent) -> Sent:
        members = gzip.compress(b"") * 50_000 if case == "empty members" else gzip.compress(BOMBS[case](answer), 9)
        assert len(members) < 4_000_000
        return coded(answer, "gzip", members)

    archive = OddArchive()
    async with asking(archive) as (ask, _):
        for kind in ("list", "metadata", "study"):
            archive.odd = lambda answer, kind=kind: odd(answer) if answer.kind == kind else answer
            assert (await ask(kind))[0] in (502, RESET), kind


async def test_a_range_of_an_encoded_body_is_refused() -> None:
    """Its bytes are those of the encoded form, and it cannot be decoded."""
    def odd(answer: Sent) -> Sent:
        if answer.kind != "frames":
            return answer
        more = (("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-9/90"))
        return replace(answer, status=206, body=zipped(answer)[:10], content_type="image/jpeg", more=more)

    async with asking(OddArchive(odd)) as (ask, _):
        assert (await ask("frames", Range="bytes=0-9"))[0] == 502
