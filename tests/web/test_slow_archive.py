"""An archive that fetches from tape: told to come back, and the retry gets what the first request
started (SIA-44).
"""

import asyncio
import contextlib
from types import SimpleNamespace

import aiohttp
import pytest

from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import PATH, WHOLE
from tests.fakes.site import HEADERS, sidecar_between
from tests.waiting import wait_until_async
from tests.web.tape import Tape


async def repeated(client: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    """The status and body in the end: a busy machine may make anything take longer than the
    patience.
    """

    async def ask() -> tuple[int, bytes]:
        async with client.get(url + PATH) as response:
            return response.status, await response.read()

    return await wait_until_async("an answer", ask, lambda answer: answer[0] != 503)


@pytest.mark.parametrize("head_first", [False, True])
async def test_the_first_request_warms_and_the_retry_is_served(head_first: bool) -> None:
    tape = Tape(head_first=head_first)
    pacs = ScriptedPacs(tape)
    async with (
        sidecar_between(ScriptedEhr(), pacs, limits={"defer_after_seconds": 0.2}) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for _ in range(2):
            async with client.get(url + PATH) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) >= 1
                assert (await response.json(content_type=None))["issue"][0]["code"] == "transient"
        tape.ready.set()
        assert await repeated(client, url) == (200, WHOLE)
    assert tape.asked == 1


async def test_a_retry_is_decided_anew() -> None:
    """What was warmed is an answer, no permission: another token does not get it."""
    ehr, tape = ScriptedEhr(), Tape()
    async with (
        sidecar_between(
            ehr,
            ScriptedPacs(tape),
            limits={"defer_after_seconds": 0.2},
            tokens={"cache": {"ttl_seconds": 0.01}},
        ) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        async with client.get(url + PATH) as response:
            assert response.status == 503
        tape.ready.set()
        ehr.answer = ehr.answer | {"patient": "somebody-else"}
        assert (await repeated(client, url))[0] == 404


async def test_a_client_that_leaves_while_it_waits_frees_the_pacs() -> None:
    tape = Tape()
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(tape), limits={"defer_after_seconds": 60}) as (
            url,
            _,
        ),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        asking = asyncio.ensure_future(client.get(url + PATH))
        await wait_until_async("the question", lambda: tape.asked)
        asking.cancel()
        await wait_until_async("the end of the PACS's connection", lambda: tape.left)


async def test_nothing_is_left_open_at_the_end() -> None:
    """The sidecar ends while something is warming: the PACS's connection is closed."""
    tape = Tape()
    async with ScriptedPacs(tape).serve() as root:
        stays = SimpleNamespace(serve=lambda: contextlib.nullcontext(root))
        async with (
            sidecar_between(ScriptedEhr(), stays, limits={"defer_after_seconds": 0.1}) as (url, _),
            aiohttp.ClientSession(headers=HEADERS) as client,
        ):
            while not tape.asked:  # On a busy machine the queries before it may be slow, too.
                async with client.get(url + PATH) as response:
                    assert response.status == 503
            assert tape.left == 0
        await wait_until_async("the end of the PACS's connection", lambda: tape.left)
