"""Decompress bodies that a peer compresses in spite of ``Accept-Encoding: identity``.

The codings are gzip (RFC 1952) and deflate (a zlib stream, RFC 1950), see RFC 9110 8.4. Some
archives store their responses compressed, and send them so to everybody. deflate makes at most
1,032 bytes of one. So each step has limits of input and output, which bound memory and time.
"""

import zlib
from collections.abc import Iterator, Mapping

import aiohttp
from multidict import MultiMapping

INPUT_BYTES = 32_768
"""Limit in bytes of the compressed input of one step. What is left over is copied."""
PIECE_BYTES = 262_144
"""Limit in bytes of the output of one step, which takes a millisecond."""

_WINDOW_BITS = {
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}
_NAMED = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"}
)


class Undecodable(aiohttp.ClientPayloadError):
    """The compressed body is damaged or cut. ``reason`` is a constant for logs."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Decoder:
    """Decompress a body in any split. ``coding`` is ``gzip``, ``x-gzip`` or ``deflate``."""

    def __init__(self, coding: str) -> None:
        self._window_bits = _WINDOW_BITS[coding]
        self._stream = zlib.decompressobj(self._window_bits)
        self._has_begun = False

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Return the output for ``chunk`` in pieces of at most ``PIECE_BYTES``, which may be empty.

        Exhaust it before the next chunk. Raises ``Undecodable``.
        """
        for start in range(0, len(chunk), INPUT_BYTES):
            data, is_full = chunk[start : start + INPUT_BYTES], False
            while data or is_full:
                piece, data = self._step(data)
                is_full = len(piece) == PIECE_BYTES  # zlib may have more of it without more input.
                yield piece

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the next output and the input that is left."""
        self._has_begun = True
        if self._stream.eof and data:
            if self._window_bits == zlib.MAX_WBITS:
                raise Undecodable("encoded_trailing")
            self._stream = zlib.decompressobj(self._window_bits)  # The next member (RFC 1952 2.2).
        try:
            piece = self._stream.decompress(data, PIECE_BYTES)
        except zlib.error:
            raise Undecodable("encoded_malformed") from None
        return piece, self._stream.unused_data or self._stream.unconsumed_tail

    def end(self) -> None:
        """Raise ``Undecodable`` unless the body was empty, or whole with its checksum."""
        if self._has_begun and not self._stream.eof:
            raise Undecodable("encoded_truncated")


def decoder_for(headers: Mapping[str, str]) -> Decoder | None:
    """Return a decoder for a body with these headers, ``None`` if none is needed or known."""
    codings = _codings(headers)
    return Decoder(codings[0]) if len(codings) == 1 and codings[0] in _WINDOW_BITS else None


def content_coding(headers: Mapping[str, str]) -> str | None:
    """Return how a body is encoded: its coding, ``several``, ``unknown``, or ``None`` for not."""
    codings = _codings(headers)
    if len(codings) > 1:
        return "several"
    coding = codings[0].removeprefix("x-") if codings else None
    return coding if coding is None or coding in _NAMED else "unknown"


def _codings(headers: Mapping[str, str]) -> list[str]:
    name = "Content-Encoding"
    if name not in headers:
        return []
    lines = headers.getall(name) if isinstance(headers, MultiMapping) else [headers[name]]
    codings = [coding.strip().lower() for line in lines for coding in line.split(",")]
    return [coding for coding in codings if coding not in ("", "identity")]
