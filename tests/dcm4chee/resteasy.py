"""A multipart/related body as RESTEasy writes it for dcm4chee: no lengths in its parts, internal
addresses in some.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from sidecar.web.send_buffers import abort_connection

CHUNK_BYTES = 2**18


class BrokenFile(Exception):
    """A part cannot be read further: ``written`` has gone out of it already. The message has a path
    of the archive.
    """

    def __init__(self, message: str, written: bytes = b"") -> None:
        super().__init__(message)
        self.written = written


@dataclass(frozen=True, slots=True)
class OutputPart:
    """``content_type`` with its parameters, the absolute URL of Content-Location (``None``: no
    line), its bytes.
    """

    content_type: str
    location: str | None
    body: Callable[[], bytes | Path]


async def send(
    request: web.Request,
    parts: Iterable[OutputPart],
    media_type: str,
    *,
    status: int,
    headers: dict[str, str],
    measured: bool,
) -> web.StreamResponse:
    """Answer with the parts; ``media_type`` is the root part's, with its transfer syntax.

    ``measured``: one part alone has a Content-Length, and is a 500 (``BrokenFile``) when it cannot
    be read; of several the body ends there as if it were whole, but without the closing delimiter.
    Otherwise the connection breaks.
    """
    boundary, start = str(uuid.uuid4()), f"<{uuid.uuid4()}@resteasy-multipart>"
    name, _, parameters = media_type.partition(";")
    content_type = (
        f'multipart/related;start="{start}";{parameters + ";" if parameters else ""}type="{name}"'
    )
    content_type += f";{' ' if measured else ''}boundary={boundary}"
    headers = {**headers, "Content-Type": content_type}
    listed = list(parts)
    opened = await asyncio.to_thread(listed[0].body) if len(listed) == 1 or not measured else None
    closing = f"--{boundary}--".encode()
    if measured and opened is not None:
        content = (
            opened if isinstance(opened, bytes) else await asyncio.to_thread(opened.read_bytes)
        )
        whole = b"".join(
            (_head(listed[0], boundary, start, measured=True), content, b"\r\n", closing)
        )
        return web.Response(body=whole, status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    if measured:
        await _write_as_measured(response, listed, boundary, start)
        return response
    for number, part in enumerate(listed):
        try:
            body = (
                opened if opened is not None and number == 0 else await asyncio.to_thread(part.body)
            )
        except Exception:
            abort_connection(request)
            return response
        await response.write(
            _head(part, boundary, start if number == 0 else _content_id(), measured=False)
        )
        await _write(response, body)
        await response.write(b"\r\n")
    await response.write(closing)
    await response.write_eof()
    return response


async def _write_as_measured(
    response: web.StreamResponse, parts: Sequence[OutputPart], boundary: str, start: str
) -> None:
    """The body to its end, or to where a part cannot be read:
    the last chunk comes in both cases.
    """
    for number, part in enumerate(parts):
        await response.write(
            _head(part, boundary, start if number == 0 else _content_id(), measured=True)
        )
        try:
            await _write(response, await asyncio.to_thread(part.body))
        except BrokenFile as broken:
            await response.write(broken.written)
            break
        await response.write(b"\r\n")
    else:
        await response.write(f"--{boundary}--".encode())
    await response.write_eof()


def _content_id() -> str:
    return f"<{uuid.uuid4()}@resteasy-multipart>"


def _head(part: OutputPart, boundary: str, content_id: str, *, measured: bool) -> bytes:
    location = [] if part.location is None else [f"Content-Location: {part.location}"]
    lines = [f"Content-ID: {content_id}", *location]
    if measured:
        lines.reverse()
    return "\r\n".join(
        (f"--{boundary}", *lines, f"Content-Type: {part.content_type}", "", "")
    ).encode()


async def _write(response: web.StreamResponse, body: bytes | Path) -> None:
    if isinstance(body, bytes):
        await response.write(body)
        return
    with body.open("rb") as file:
        await _copy(response, file)


async def _copy(response: web.StreamResponse, file: BinaryIO) -> None:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        await response.write(chunk)
