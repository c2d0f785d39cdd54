"""Last-Modified and If-Modified-Since on reads (R4 http.html#cread, RFC 9110 13.1.3)."""

from functools import partial
from typing import Any

import aiohttp
import pytest

from sidecar.bootstrap import build
from sidecar.fhir.catalog.catalog import Catalog
from tests.common.peer import Clock
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between
from tests.fhir.rows import row
from tests.tables.search_forms import FOREIGN, ROWS, A

FRESH = {"Cache-Control": "no-cache"}
FIRST, LATER = "Thu, 29 Feb 2024 09:15:00 GMT", "Thu, 29 Feb 2024 09:15:07 GMT"
BEGIN = 1_709_198_100.4
"""Within the second of ``FIRST``."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(BEGIN)
    monkeypatch.setattr(build, "Catalog", partial(Catalog, clock=clock))
    return clock


async def read(
    client: aiohttp.ClientSession, url: str, headers: dict[str, str], method: str = "GET"
) -> tuple[int, str | None]:
    """Return the status and Last-Modified."""
    async with client.request(method, f"{url}/fhir/ImagingStudy/{A}", headers=headers) as answer:
        body = await answer.read()
        assert bool(body) is (method == "GET" and answer.status == 200)
        return answer.status, answer.headers.get("Last-Modified")


def since(moment: str) -> dict[str, str]:
    return {"If-Modified-Since": moment}


async def test_who_has_it_gets_none(clock: Clock) -> None:
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(*ROWS)) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        # It may change again within this second, which the header could not say.
        assert await read(client, url, {}) == (200, None)
        assert await read(client, url, since(FIRST)) == (200, None)
        clock.now += 1
        for method in ("GET", "HEAD"):
            assert await read(client, url, {}, method) == (200, FIRST)
            assert await read(client, url, since(FIRST), method) == (304, FIRST)
        # Another time is not ours: who has it may have an older list's.
        for moment in (LATER, "Thu, 29 Feb 2024 09:14:59 GMT", "", "yesterday", f"{FIRST},{FIRST}"):
            assert await read(client, url, since(moment)) == (200, FIRST)
        # If-None-Match comes first (RFC 9110 13.2.2).
        assert await read(client, url, since(FIRST) | {"If-None-Match": '"x"'}) == (200, FIRST)
        assert await read(client, url, {"If-None-Match": "*"}) == (304, FIRST)


async def test_a_change_is_sent(clock: Clock) -> None:
    archive = RowArchive(*ROWS)
    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        assert (await read(client, url, {}))[0] == 200
        clock.now += 7
        archive.rows = ({**ROWS[0], **row(StudyDescription="new")}, *ROWS[1:])
        assert await read(client, url, since(FIRST) | FRESH) == (200, None)
        clock.now += 1
        assert await read(client, url, since(FIRST)) == (200, LATER)
        assert await read(client, url, since(LATER)) == (304, LATER)


async def test_what_is_not_the_tokens_is_404_all_the_same(clock: Clock) -> None:
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(*ROWS)) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        await read(client, url, {})
        clock.now += 1
        for study in (FOREIGN, "9.9"):
            target = f"{url}/fhir/ImagingStudy/{study}"
            async with client.get(target, headers=since(FIRST)) as answer:
                assert (answer.status, answer.headers.get("Last-Modified")) == (404, None)
        target = f"{url}/fhir/ImagingStudy/{A}"
        async with client.get(target, headers=since(FIRST) | {"Authorization": "x"}) as answer:
            assert answer.status == 401


async def test_what_is_decided_anew_has_no_last_modified(clock: Clock) -> None:
    """What rules and constraints show of a study may change while the study does not."""
    rule: dict[str, Any] = {"name": "a", "effect": "exclude", "series": {"Modality": ["SR"]}}
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(*ROWS), access={"rules": [rule]}) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        await read(client, url, {})
        clock.now += 1
        assert await read(client, url, since(FIRST)) == (200, None)
