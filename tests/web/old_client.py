"""A client of HTTP/1.0, for which the end of the connection is the end of the body."""

import asyncio

import pytest

from tests.fakes.ehr import TOKEN
from tests.fakes.retrievals import PATH


async def expect_reset(url: str, header_lines: str = "") -> None:
    """Retrieve the study; the connection must end by a reset, as there are no chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    head = f"GET {PATH} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n{header_lines}\r\n"
    writer.write(head.encode())
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
