"""Who asks whether we are there must hear so only when we are."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from sidecar.server import process
from sidecar.server.listener import Listener
from sidecar.server.process import Generation
from sidecar.settings.document import Settings
from sidecar.telemetry.metrics import Metrics
from tests.sidecar_process import free_port
from tests.waiting import wait_until_async


@contextlib.asynccontextmanager
async def generation(public: int, admin: int) -> AsyncIterator[Generation]:
    server = {
        "host": "127.0.0.1",
        "port": public,
        "admin_host": "127.0.0.1",
        "admin_port": admin,
        "public_url": f"http://127.0.0.1:{public}",
    }
    settings = Settings.model_validate(
        {
            "server": server,
            "ehr": {"fhir_url": "http://127.0.0.1:1/fhir"},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": "http://127.0.0.1:1/rs"},
        }
    )
    found = Generation(settings, Metrics("0"))
    yield found
    await found.end(0)


async def metadata(session: aiohttp.ClientSession, port: int) -> int:
    async with session.get(f"http://127.0.0.1:{port}/fhir/metadata") as answer:
        return answer.status


async def test_when_the_admin_port_answers_the_public_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A successful probe brings clients, so the public port must listen by then."""
    public, admin = free_port(), free_port()
    start, found = Listener.start, []

    async def watched(self: Listener) -> None:
        await start(self)
        if self.port == admin:
            async with aiohttp.ClientSession() as session:
                found.append(await metadata(session, public))

    monkeypatch.setattr(Listener, "start", watched)
    async with generation(public, admin) as starting:
        await starting.started()
    assert found == [200]


async def test_a_port_that_nobody_changed_needs_no_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reload is compared with what listens, not with the file of the reload before."""
    public, admin, other = free_port(), free_port(), free_port()
    async with generation(public, admin) as first:
        await first.started()
        current, started = first, []
        for port in (other, public):
            load = partial(with_port, first.settings, port)
            following = await process._next(current, load, first.settings.server)
            assert following is not None
            started.append(following)
            current = following
        for one in started:
            await one.end(0)
    (record,) = [one for one in caplog.records if one.message == "a change that needs a restart"]
    assert (vars(record)["setting"], vars(record)["configured"], vars(record)["listening"]) == (
        "server.port",
        other,
        public,
    )


def with_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"server": settings.server.model_copy(update={"port": port})})


@pytest.mark.parametrize("taken", ["port", "admin_port"])
async def test_a_port_that_is_taken_leaves_the_other_one_free(taken: str, tmp_path: Path) -> None:
    ports = {"port": free_port(), "admin_port": free_port()}
    async with generation(ports[taken], free_port()) as first:
        await first.started()
        async with generation(ports["port"], ports["admin_port"]) as second:
            with pytest.raises(OSError, match=rf"server\.{taken}") as error:
                await second.started()
            assert error.value.filename.endswith(f":{ports[taken]}")
        (other,) = {"port", "admin_port"} - {taken}
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await metadata(session, ports[other])


async def test_connections_of_before_a_reload_count_as_well() -> None:
    """limits.client_connections holds for the process, whatever generation has the connections."""
    public, admin = free_port(), free_port()
    async with generation(public, admin) as first:
        await first.started()
        _, old = await asyncio.open_connection("127.0.0.1", public)
        await wait_until_async("it is accepted", lambda: len(first.connections), (1).__eq__)
        following = await process._next(first, lambda: first.settings, first.settings.server)
        assert following is not None
        assert len(following.connections) == 1
        _, new = await asyncio.open_connection("127.0.0.1", public)
        await wait_until_async("both are counted", lambda: len(following.connections), (2).__eq__)
        for one in (old, new):
            one.close()
            await one.wait_closed()
        await wait_until_async("both have left", lambda: len(following.connections), (0).__eq__)
        await following.end(0)
