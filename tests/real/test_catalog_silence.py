"""A PostgreSQL that is frozen, or behind a network that swallows everything: requests end, and
others go on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import pytest

from sidecar.common.errors import Unavailable
from sidecar.fhir.catalog import catalog as catalog_module
from sidecar.fhir.catalog import postgresql as catalog_postgresql
from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.catalog.postgresql import PostgresqlStore
from tests.real.postgresql import Postgresql, postgresql
from tests.silent_peers import full_listener
from tests.waiting import WAIT_SECONDS, wait_until_async

pytestmark = pytest.mark.postgresql

STUDIES = {"1.2.3": b"fingerprint"}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql() as running:
        yield running


@contextlib.asynccontextmanager
async def a_catalog(dsn: str) -> AsyncIterator[Catalog]:
    catalog = Catalog(await asyncio.to_thread(PostgresqlStore, dsn))
    try:
        yield catalog
    finally:
        catalog.close()


async def refused(catalog: Catalog, patients: int) -> list[str]:
    """The reasons why none of these patients' lists can be looked at, at once."""
    async with asyncio.timeout(WAIT_SECONDS):
        looks = (catalog.look(f"patient {number}", STUDIES) for number in range(patients))
        answers = await asyncio.gather(*looks, return_exceptions=True)
    return [one.reason if isinstance(one, Unavailable) else str(one) for one in answers]


async def seen_again(catalog: Catalog, patient: str) -> dict[str, datetime]:
    """What a look finds when the database works again."""

    async def look() -> dict[str, datetime]:
        with contextlib.suppress(Unavailable):
            return await catalog.look(patient, STUDIES)
        return {}

    return await wait_until_async("the database", look)


async def test_a_frozen_database_is_503_for_all_and_serves_again(
    server: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits behind somebody else's silence, and no thread is left:
    exchanges end themselves.
    """
    monkeypatch.setattr(catalog_postgresql, "_EXCHANGE_SECONDS", 0.5)
    async with a_catalog(server.dsn) as catalog:
        first = await catalog.look("p", STUDIES)
        with server.frozen():
            assert await refused(catalog, 5) == ["catalog"] * 5
        assert await seen_again(catalog, "p") == first


async def test_a_thread_that_hangs_keeps_no_request(
    server: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps it: a name service, a file system."""
    monkeypatch.setattr(catalog_module, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(catalog_module, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(catalog_postgresql, "_EXCHANGE_SECONDS", 86_400)
    async with a_catalog(server.dsn) as catalog:
        await catalog.look("p", STUDIES)
        with server.frozen("backend"):
            assert await refused(catalog, 1) == ["catalog"]
        assert await seen_again(catalog, "p")


async def test_one_connection_that_hangs_keeps_no_other(server: Postgresql) -> None:
    async with a_catalog(server.dsn) as catalog:
        await catalog.look("p", STUDIES)
        with server.frozen("backend"):
            hanging = asyncio.create_task(catalog.look("p", STUDIES))
            await wait_until_async("the exchange", catalog._store._idle.empty)  # type: ignore[attr-defined]
            async with asyncio.timeout(WAIT_SECONDS):
                assert await catalog.look("another", STUDIES)
            assert not hanging.done()
        assert await hanging


async def test_a_network_that_swallows_everything(
    server: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_postgresql, "_EXCHANGE_SECONDS", 0.5)
    swallows = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not swallows.is_set():
                writer.write(data)
        writer.close()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", server.port)
        writers.extend((writer, ours))
        await asyncio.gather(relay(reader, ours), relay(theirs, writer), return_exceptions=True)

    hole = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = hole.sockets[0].getsockname()[1]
    async with a_catalog(server.dsn.replace(str(server.port), str(port))) as catalog:
        first = await catalog.look("p", STUDIES)
        swallows.set()
        assert await refused(catalog, 5) == ["catalog"] * 5
        swallows.clear()
        assert await seen_again(catalog, "p") == first
    hole.close()
    for one in writers:
        one.close()


def test_a_network_that_swallows_the_first_packet() -> None:
    with full_listener() as port, pytest.raises(OSError, match="cannot be used"):
        PostgresqlStore(f"host=127.0.0.1 port={port} user=us dbname=x")
