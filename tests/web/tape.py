"""An archive that is slow to answer."""

import asyncio

from tests.fakes.retrievals import MULTIPART, WHOLE

HEAD = b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Content-Length: %d\r\n\r\n" % len(WHOLE)


class Tape:
    """Answers when told to: ``head_first`` sends the head at once and only the body late."""

    def __init__(self, *, head_first: bool = False) -> None:
        self.ready = asyncio.Event()
        self.asked = 0
        self.left = 0
        self.head_first = head_first

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.head_first:
            writer.write(HEAD)
            await writer.drain()
        ready, gone = asyncio.ensure_future(self.ready.wait()), asyncio.ensure_future(reader.read())
        await asyncio.wait((ready, gone), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            self.left += 1
            ready.cancel()
            return
        gone.cancel()
        writer.write(WHOLE if self.head_first else HEAD + WHOLE)
