"""Compressed bodies: bounded steps, several members, nothing damaged or cut (RFC 1950, 1952)."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from sidecar.common.content_coding import (
    INPUT_BYTES,
    PIECE_BYTES,
    Decoder,
    Undecodable,
    content_coding,
    decoder_for,
)

TEXT = b"[" + b'{"a":1},' * 2_000 + b"{}]"


def decoded(coding: str, *chunks: bytes) -> bytes:
    decoder = Decoder(coding)
    found = b"".join(piece for chunk in chunks for piece in decoder.steps(chunk))
    decoder.end()
    return found


WHOLE: dict[str, tuple[str, bytes, bytes]] = {
    "gzip": ("gzip", gzip.compress(TEXT), TEXT),
    "x-gzip": ("x-gzip", gzip.compress(TEXT), TEXT),
    "deflate": ("deflate", zlib.compress(TEXT), TEXT),
    "two members": ("gzip", gzip.compress(TEXT) + gzip.compress(b"more"), TEXT + b"more"),
    "an empty member": (
        "gzip",
        gzip.compress(b"") + gzip.compress(b"more") + gzip.compress(b""),
        b"more",
    ),
    "stored": ("gzip", gzip.compress(TEXT, 0), TEXT),
    "nothing": ("gzip", b"", b""),
    "one piece": ("gzip", gzip.compress(bytes(PIECE_BYTES)), bytes(PIECE_BYTES)),
    "one piece and a byte": (
        "deflate",
        zlib.compress(bytes(PIECE_BYTES + 1)),
        bytes(PIECE_BYTES + 1),
    ),
}


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("size", [1, 7, 10**9])
def test_what_is_whole(case: str, size: int) -> None:
    coding, body, text = WHOLE[case]
    assert decoded(coding, *(body[at : at + size] for at in range(0, len(body), size))) == text


DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "no gzip": ("gzip", b"[{}]", "encoded_malformed"),
    "deflate that is gzip": ("deflate", gzip.compress(TEXT), "encoded_malformed"),
    "a wrong checksum": ("gzip", gzip.compress(TEXT)[:-8] + bytes(8), "encoded_malformed"),
    "garbage behind it": ("gzip", gzip.compress(TEXT) + b"garbage", "encoded_malformed"),
    "zeros behind it": ("gzip", gzip.compress(TEXT) + bytes(8), "encoded_malformed"),
    "garbage behind a zlib stream": ("deflate", zlib.compress(TEXT) + b"x", "encoded_trailing"),
    "a second zlib stream": ("deflate", zlib.compress(TEXT) * 2, "encoded_trailing"),
    "cut in its head": ("gzip", gzip.compress(TEXT)[:5], "encoded_truncated"),
    "cut": ("gzip", gzip.compress(TEXT)[:-20], "encoded_truncated"),
    "without its last byte": ("gzip", gzip.compress(TEXT)[:-1], "encoded_truncated"),
    "a second member that is cut": (
        "gzip",
        gzip.compress(TEXT) + gzip.compress(TEXT)[:-1],
        "encoded_truncated",
    ),
    "a cut zlib stream": ("deflate", zlib.compress(TEXT)[:-1], "encoded_truncated"),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("size", [1, 10**9])
def test_what_is_not(case: str, size: int) -> None:
    coding, body, reason = DAMAGED[case]
    with pytest.raises(Undecodable) as refused:
        decoded(coding, *(body[at : at + size] for at in range(0, len(body), size)))
    assert refused.value.reason == reason


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1))
def test_any_split_is_the_same(text: bytes, sizes: list[int]) -> None:
    body, chunks = gzip.compress(text) + gzip.compress(text[:7]), []
    for size in sizes:
        chunks.append(body[:size])
        body = body[size:]
    assert decoded("gzip", *chunks, body) == text + text[:7]


def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = zlib.compress(bytes(100 * 2**20))
    assert len(bomb) < 200_000
    sizes = [len(piece) for piece in Decoder("deflate").steps(bomb)]
    assert sum(sizes) == 100 * 2**20
    assert max(sizes) <= PIECE_BYTES


def test_many_members_are_as_many_steps() -> None:
    """Empty members are steps as well, so that the work can be interrupted between them."""
    assert len(list(Decoder("gzip").steps(gzip.compress(b"") * 3_000))) >= 3_000
    assert len(gzip.compress(b"") * 3_000) > INPUT_BYTES


CODINGS: dict[str, tuple[list[str], str | None, bool]] = {
    "none": ([], None, False),
    "empty": ([""], None, False),
    "identity": (["Identity"], None, False),
    "gzip": (["gzip"], "gzip", True),
    "GZIP": (["GZIP"], "gzip", True),
    "x-gzip": (["x-gzip"], "gzip", True),
    "deflate": ([" deflate "], "deflate", True),
    "identity and gzip": (["identity, gzip"], "gzip", True),
    "br": (["br"], "br", False),
    "zstd": (["zstd"], "zstd", False),
    "compress": (["x-compress"], "compress", False),
    "another": (["secret-text"], "unknown", False),
    "twice": (["gzip, gzip"], "several", False),
    "two": (["gzip, br"], "several", False),
    "two lines": (["gzip", "gzip"], "several", False),
}


@pytest.mark.parametrize("case", CODINGS)
def test_which_coding_it_is(case: str) -> None:
    lines, name, is_decoded = CODINGS[case]
    headers = CIMultiDict([("content-encoding", line) for line in lines])
    assert content_coding(headers) == name
    assert (decoder_for(headers) is not None) is is_decoded
