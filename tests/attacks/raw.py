"""One raw request, and what the server made of it: no client library tidies up what is sent."""

import asyncio
import contextlib
from dataclasses import dataclass

from tests.fakes.ehr import TOKEN

BEARER = f"Authorization: Bearer {TOKEN}"
CONNECTION_SECONDS = 60


@dataclass(frozen=True)
class RawAnswer:
    """A status line's number, header lines (names lower-cased), the body as far as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value."""
        return next((value for found, value in self.headers if found == name), None)


def request(
    target: str | bytes,
    *lines: str | bytes,
    method: str = "GET",
    version: str = "HTTP/1.1",
    body: bytes = b"",
    token: bool = True,
    host: str | None = "sidecar.example.org",
) -> bytes:
    """The bytes of a request; ``lines`` are further header lines."""
    path = target if isinstance(target, bytes) else target.encode("utf-8", "surrogateescape")
    head = [method.encode() + b" " + path + b" " + version.encode()]
    head += [f"Host: {host}".encode()] if host is not None else []
    head += [BEARER.encode()] if token else []
    head += [
        line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
        for line in lines
    ]
    head += [b"Content-Length: %d" % len(body)] if body else []
    return b"\r\n".join([*head, b"Connection: close", b"", body])


async def send(port: int, data: bytes, *, pieces: int = 1) -> bytes:
    """Send bytes (in ``pieces``) and return everything that came until the server closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        step = max(1, -(-len(data) // pieces))
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            if pieces > 1:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(CONNECTION_SECONDS):
            while chunk := await reader.read(65_536):
                received += chunk
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return received


def answers(received: bytes) -> list[RawAnswer]:
    """Take apart the answers that came on one connection (each with Content-Length, or chunked)."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
        if 100 <= int(first.split(" ")[1]) < 200:
            received = rest
            continue
        length = next((int(value) for name, value in headers if name == "content-length"), None)
        if length is None:
            length = len(rest)
        found.append(RawAnswer(int(first.split(" ")[1]), headers, rest[:length]))
        received = rest[length:]
    return found
