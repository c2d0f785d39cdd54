"""A body on its way to the client: several pieces at a time, and none of them copied.

aiohttp's own ``write`` joins each piece with its chunk's length, on some versions of Python, and
waits behind each.
"""

from collections.abc import Sequence

from aiohttp.abc import AbstractStreamWriter

Pieces = Sequence[bytes | memoryview]
_LONG_BYTES = 2**16


class ChunkWriter:
    """The body behind ``writer``, which ``StreamResponse.prepare`` returned."""

    def __init__(self, writer: AbstractStreamWriter, *, compressed: bool = False) -> None:
        self._writer = writer
        self._compressed = compressed
        self._begun = False

    async def write(self, pieces: Pieces) -> int:
        """Send them, not empty, and return how many bytes. Waits while the client is slow.

        Raises ``ConnectionError`` when the client has left.
        """
        size = sum(map(len, pieces))
        writer, transport = self._writer, self._writer.transport
        # Of these the event loop takes many buffers as they are; asyncio's own transports would
        # join them.
        takes_many = type(transport).__module__.startswith("uvloop")
        is_chunked = getattr(writer, "chunked", False)
        # What is left of a Content-Length; more than that is aiohttp's to cut off.
        left: int = getattr(writer, "length", None) or 0
        is_framed = is_chunked or size <= left
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        if self._compressed or not (
            self._begun and takes_many and is_framed and size >= _LONG_BYTES
        ):
            self._begun = True
            for piece in pieces:
                await writer.write(piece)
            return size
        if is_chunked:
            transport.writelines((b"%x\r\n" % size, *pieces, b"\r\n"))
        else:
            transport.writelines(pieces)
            writer.length = left - size
        writer.output_size += size
        await writer.drain()
        return size
