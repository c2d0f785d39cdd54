"""Content-Encodings of archives: what is decoded, and what is refused."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.common.peer import all_that_is_said
from tests.fakes.odd_archive import PATHS, OddArchive, Sent
from tests.pacs.odd_answers import OK, RESET, Odd, asking, only


def coded(answer: Sent, coding: str, body: bytes | None = None, **more: object) -> Sent:
    if body is None:
        body = gzip.compress(answer.body) if coding in ("gzip", "x-gzip") else answer.body
        body = zlib.compress(body) if coding == "deflate" else body
    lines = (("Content-Encoding", coding), ("ETag", '"encoded"'), ("Accept-Ranges", "bytes"))
    return replace(answer, body=body, more=lines, **more)  # type: ignore[arg-type]


def zipped(answer: Sent) -> bytes:
    return gzip.compress(answer.body)


ENCODED: dict[str, tuple[Odd, int]] = {
    "gzip": (lambda answer: coded(answer, "gzip"), OK),
    "GZIP": (lambda answer: coded(answer, "GZIP", zipped(answer)), OK),
    "x-gzip": (lambda answer: coded(answer, "x-gzip"), OK),
    "deflate": (lambda answer: coded(answer, "deflate"), OK),
    "gzip in chunks": (lambda answer: coded(answer, "gzip", framing="chunked"), OK),
    "gzip and identity": (lambda answer: coded(answer, "identity, gzip", zipped(answer)), OK),
    "two members": (
        lambda answer: coded(
            answer, "gzip", gzip.compress(answer.body[:9]) + gzip.compress(answer.body[9:])
        ),
        OK,
    ),
    "identity by name": (lambda answer: coded(answer, "identity"), OK),
    "cut": (lambda answer: coded(answer, "gzip", zipped(answer)[:-9]), 502),
    "a member is cut": (
        lambda answer: coded(answer, "gzip", zipped(answer) + zipped(answer)[:9]),
        502,
    ),
    "garbage behind it": (lambda answer: coded(answer, "gzip", zipped(answer) + b"garbage"), 502),
    "a wrong checksum": (lambda answer: coded(answer, "gzip", zipped(answer)[:-8] + bytes(8)), 502),
    "not gzip at all": (lambda answer: coded(answer, "gzip", answer.body), 502),
    "deflate without zlib's head": (
        lambda answer: coded(answer, "deflate", zlib.compress(answer.body)[2:-4]),
        502,
    ),
    "br": (lambda answer: coded(answer, "br"), 502),
    "zstd": (lambda answer: coded(answer, "zstd"), 502),
    "unknown": (lambda answer: coded(answer, "a-secret"), 502),
    "twice": (lambda answer: coded(answer, "gzip, gzip", gzip.compress(zipped(answer))), 502),
}


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("case", ENCODED)
async def test_encoded_answers(case: str) -> None:
    """RFC 9110 8.4: what is decoded leaves as what it was before, without a length or tag of the
    encoded form.
    """
    odd, status = ENCODED[case]
    archive = OddArchive()
    async with asking(archive) as (ask, _):
        plain = {kind: await ask(kind) for kind in PATHS}
        assert {response[0] for response in plain.values()} == {OK}
        for kind in PATHS:
            archive.odd = only(kind, odd)
            received, headers, body = await ask(kind)
            if status != OK:
                assert received in (status, RESET), kind
                continue
            assert (received, body) == (OK, plain[kind][2]), kind
            assert "Content-Encoding" not in headers
            assert headers.get("Content-Length", str(len(body))) == str(len(body))
            assert case == "identity by name" or not {"ETag", "Accept-Ranges"} & set(headers)


@pytest.mark.parametrize(
    ("coding", "detail"),
    [
        ("br", "br"),
        ("zstd", "zstd"),
        ("a-secret", "unknown"),
        ("gzip, gzip", "several"),
        ("gzip", "malformed"),
    ],
)
async def test_the_log_names_the_encoding(
    coding: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    archive = OddArchive()
    async with asking(archive) as (ask, _):
        for kind in ("list", "metadata"):
            archive.odd = only(kind, lambda answer: coded(answer, coding, b"[not gzip]"))
            assert (await ask(kind))[0] == 502
    named = [vars(record).get("detail") or vars(record).get("reason") for record in caplog.records]
    assert detail in named
    assert named.count(detail) == 2 or "pacs_encoded_malformed" in named
    assert "secret" not in all_that_is_said(caplog)


BOMBS: dict[str, Callable[[Sent], bytes]] = {
    "white space": lambda answer: b"[" + b" " * 70_000_000,
    "rows": lambda answer: b"[" + answer.body[1:-1] + (b"," + answer.body[1:-1]) * 20_500 + b"]",
    "empty members": lambda answer: b"",
    "before the first part": lambda answer: bytes(70_000_000),
}


@pytest.mark.parametrize("case", BOMBS)
async def test_a_bomb_is_refused(case: str) -> None:
    """What is too much ends it, as it does for what comes as it is; ``tests/stalls.py`` reports the
    longest stall.
    """

    def odd(answer: Sent) -> Sent:
        members = (
            gzip.compress(b"") * 50_000
            if case == "empty members"
            else gzip.compress(BOMBS[case](answer), 9)
        )
        assert len(members) < 4_000_000
        return coded(answer, "gzip", members)

    archive = OddArchive()
    async with asking(archive) as (ask, _):
        for kind in ("list", "metadata", "study"):
            archive.odd = only(kind, odd)
            assert (await ask(kind))[0] in (502, RESET), kind


async def test_a_range_of_an_encoded_body_is_refused() -> None:
    """Its bytes are those of the encoded form, and it cannot be decoded."""

    def odd(answer: Sent) -> Sent:
        if answer.kind != "frames":
            return answer
        more = (("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-9/90"))
        return replace(
            answer, status=206, body=zipped(answer)[:10], content_type="image/jpeg", more=more
        )

    async with asking(OddArchive(odd)) as (ask, _):
        assert (await ask("frames", Range="bytes=0-9"))[0] == 502
