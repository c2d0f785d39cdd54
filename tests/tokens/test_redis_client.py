"""The client of Valkey or Redis in front of a server that answers what it likes, or nothing."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.access.facts import Token
from sidecar.tokens.redis_client import CONNECTIONS, LIMIT_BYTES, RedisClient, RedisServer
from sidecar.tokens.shared_answers import AnswerSeal, SharedAnswer
from sidecar.tokens.shared_cache import SharedTokenCache
from tests.certificates import certificate, server_context
from tests.fakes.stream_server import stream_server
from tests.silent_peers import full_listener
from tests.stalls import measured
from tests.waiting import WAIT_SECONDS, wait_until_async

ANSWER = SharedAnswer(Token((), 2_000_000, patient="p1"), None, 1_000_000)
SEAL = AnswerSeal(b"k" * 64, b"scope")
SHORT = 0.5
"""Seconds after which a silent server is left."""


class Scripted:
    """Answers each command with what ``reply`` makes of its arguments, or floods with it."""

    def __init__(self, reply: Callable[[list[bytes]], bytes]) -> None:
        self.reply = reply
        self.commands: list[list[bytes]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                command = []
                for _ in range(int(line[1:])):
                    length = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(length + 2))[:-2])
                self.commands.append(command)
                answer = b"+OK\r\n" if command[0] in (b"CLIENT", b"AUTH") else self.reply(command)
                for begin in range(0, len(answer), 65_536):
                    writer.write(answer[begin : begin + 65_536])
                    await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self, **options: Any) -> AsyncIterator[int]:
        """Listen; yields the port."""
        async with stream_server(self.serve, **options) as port:
            yield port


@contextlib.asynccontextmanager
async def client_of(
    url: str, seconds: float = WAIT_SECONDS, **options: Any
) -> AsyncIterator[RedisClient]:
    """A client, closed at the end."""
    client = RedisClient(RedisServer(url, **options), seconds=seconds)
    try:
        yield client
    finally:
        await client.close()


HOSTILE = {
    "a long value": b"$1000000000\r\n" + b"x" * 2**22,
    "a value that is too long by little": b"$%d\r\n" % (LIMIT_BYTES + 2) + b"x" * 2**15 + b"\r\n",
    "a negative length": b"$-7\r\n",
    "a length that is none": b"$x\r\n",
    "a length of many digits": b"$" + b"9" * 60_000 + b"\r\n",
    "parts": b"*1000000000\r\n" + b":1\r\n" * 2**20,
    "parts in parts": b"*1\r\n" * 2**20,
    "a line without an end": b"+" + b"x" * 2**22,
    "an error without an end": b"-" + b"x" * 2**22,
    "an unknown type": b"!12\r\n",
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a pushed message": b">3\r\n$6\r\nMOVING\r\n:1\r\n$9\r\nevil:6379\r\n",
    "a number where a value is": b":1\r\n",
    "a value where a number is": b"$1\r\n1\r\n",
    "too much": b"$1\r\n1\r\n:5\r\n:5\r\n:5\r\n",
    "an error": b"-ERR a-secret-text\r\n",
    "elsewhere": b"-MOVED 1 127.0.0.1:1\r\n",
    "elsewhere, badly": b"-MOVED\r\n",
    "full": b"-OOM command not allowed\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_reply_is_refused_at_once(
    reply: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Before it is read; it holds nothing up, and is quoted nowhere."""
    server, seen = Scripted(lambda command: reply), list[str]()
    async with server.listening() as port:
        seconds = SHORT if not reply else WAIT_SECONDS
        async with client_of(f"redis://127.0.0.1:{port}", seconds) as client:
            cache = SharedTokenCache(client, SEAL, observe=seen.append)
            with caplog.at_level(logging.DEBUG, "sidecar"):
                async with asyncio.timeout(WAIT_SECONDS):
                    assert await cache.get("a-token") is None
    assert set(seen) <= {"unavailable", "unreadable"}
    assert len(seen) == 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "name", ["a long value", "parts", "parts in parts", "an error without an end"]
)
async def test_a_hostile_reply_holds_the_loop_for_nothing(
    name: str, request: pytest.FixtureRequest
) -> None:
    server = Scripted(lambda command: HOSTILE[name])
    async with server.listening() as port, client_of(f"redis://127.0.0.1:{port}") as client:
        cache = SharedTokenCache(client, SEAL)
        with measured(request):
            assert await cache.get("a-token") is None


async def test_a_longer_value_is_cut_by_the_server() -> None:
    """It is asked for no more than could be an entry, and the connection goes on."""
    sent = b"$%d\r\n" % (LIMIT_BYTES + 1) + b"x" * (LIMIT_BYTES + 1) + b"\r\n"
    replies = {b"GETRANGE": sent, b"PTTL": b":5000\r\n"}
    server = Scripted(lambda command: replies[command[0]])
    async with server.listening() as port, client_of(f"redis://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert await client.get("name") == (b"x" * (LIMIT_BYTES + 1), 5)
        assert [b"GETRANGE", b"name", b"0", str(LIMIT_BYTES).encode()] in server.commands
    assert server.connections == 1


@pytest.mark.parametrize(("milliseconds", "seconds"), [(b"-1", 0), (b"1500", 1.5), (b"-2", 0)])
async def test_the_time_that_is_left(milliseconds: bytes, seconds: float) -> None:
    """A value that never ends has none left: it is none of ours."""
    replies = {b"GETRANGE": b"$1\r\nx\r\n", b"PTTL": b":" + milliseconds + b"\r\n"}
    server = Scripted(lambda command: replies[command[0]])
    async with server.listening() as port, client_of(f"redis://127.0.0.1:{port}") as client:
        assert await client.get("name") == (b"x", seconds)


async def test_what_is_stored_ends_whatever_storing_takes() -> None:
    server = Scripted(lambda command: b"+OK\r\n")
    async with server.listening() as port, client_of(f"redis://127.0.0.1:{port}", 10) as client:
        assert await client.put("name", b"value", 60)
        assert not await client.put("name", b"value", 10)
    assert server.commands[-1] == [b"SET", b"name", b"value", b"PX", b"50000"]


async def test_no_more_connections_than_allowed() -> None:
    replies = {b"GETRANGE": b"$0\r\n\r\n", b"PTTL": b":-2\r\n"}
    server = Scripted(lambda command: replies[command[0]])
    async with server.listening() as port, client_of(f"redis://127.0.0.1:{port}") as client:
        found = await asyncio.gather(*(client.get(f"{number}") for number in range(500)))
    assert found == [None] * 500
    assert server.connections <= CONNECTIONS


async def test_a_silent_server_keeps_nobody_and_is_used_again() -> None:
    """And none of the answers that come late is taken for the answer to another question."""
    silent = asyncio.Event()
    replies = {b"GETRANGE": b"$1\r\nx\r\n", b"PTTL": b":5000\r\n"}
    server = Scripted(lambda command: b"" if silent.is_set() else replies[command[0]])
    async with server.listening() as port, client_of(f"redis://127.0.0.1:{port}", SHORT) as client:
        silent.set()
        async with asyncio.timeout(WAIT_SECONDS):
            outcomes = await asyncio.gather(
                *(client.get(f"{number}") for number in range(100)), return_exceptions=True
            )
        assert all(isinstance(outcome, Exception) for outcome in outcomes)
        silent.clear()

        async def works() -> object:
            with contextlib.suppress(Exception):
                return await client.get("name")
            return None

        assert await wait_until_async("an answer", works) == (b"x", 5)
    assert Counter(command[0] for command in server.commands).keys() <= {
        b"CLIENT",
        b"GETRANGE",
        b"PTTL",
    }


async def test_a_server_that_accepts_no_connection_keeps_nobody() -> None:
    with full_listener() as port:
        async with client_of(f"redis://127.0.0.1:{port}", SHORT) as client:
            async with asyncio.timeout(WAIT_SECONDS):
                outcomes = await asyncio.gather(
                    *(client.get(f"{number}") for number in range(50)), return_exceptions=True
                )
    assert all(isinstance(outcome, Exception) for outcome in outcomes)


async def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    replies = {b"GETRANGE": b"$1\r\nx\r\n", b"PTTL": b":5000\r\n"}
    server = Scripted(lambda command: replies[command[0]])
    writers: list[asyncio.StreamWriter] = []
    serve = server.serve

    async def remembering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    server.serve = remembering  # type: ignore[method-assign]
    async with server.listening() as port, client_of(f"redis://127.0.0.1:{port}") as client:
        assert await client.get("name")
        writers[0].close()
        (idle,) = client._redis.connection_pool._available_connections
        reader: Any = idle._reader
        await wait_until_async("the end", lambda: bool(reader.at_eof()))
        assert await client.get("name")
    assert server.connections == 2


async def test_tls_trusts_the_file_and_nothing_else(tmp_path: Path) -> None:
    """Neither another authority, nor a certificate for another name."""
    replies = {b"GETRANGE": b"$1\r\nx\r\n", b"PTTL": b":5000\r\n"}
    server = Scripted(lambda command: replies[command[0]])
    ours, other = certificate(tmp_path, "ours"), certificate(tmp_path, "other")
    async with server.listening(ssl=server_context(ours)) as port:
        async with client_of(f"rediss://localhost:{port}", ca_file=ours[0]) as client:
            assert await client.get("name") == (b"x", 5)
        for host, file in (("localhost", other[0]), ("localhost", None), ("127.0.0.1", ours[0])):
            async with client_of(f"rediss://{host}:{port}", ca_file=file) as client:
                with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get("name")


async def test_we_log_in_and_name_the_database() -> None:
    replies = {b"GETRANGE": b"$1\r\nx\r\n", b"PTTL": b":5000\r\n", b"SELECT": b"+OK\r\n"}
    server = Scripted(lambda command: replies[command[0]])
    async with server.listening() as port:
        url = f"redis://127.0.0.1:{port}/3"
        async with client_of(url, username="us", password="secret") as client:
            assert await client.get("name")
    assert server.commands[0] == [b"AUTH", b"us", b"secret"]
    assert [b"SELECT", b"3"] in server.commands


async def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    replies = {b"GETRANGE": b"$1\r\nx\r\n", b"PTTL": b":5000\r\n"}
    server = Scripted(lambda command: replies[command[0]])
    path = tmp_path / "a socket"
    listener = await asyncio.start_unix_server(server.serve, path)
    async with listener, client_of(f"unix://{tmp_path}/a%20socket", password="secret") as client:
        assert await client.get("name") == (b"x", 5)
    assert [b"AUTH", b"secret"] in server.commands
