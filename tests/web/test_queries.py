"""Queries for a patient: with their own connections, and without a limit where the archive finds others as well."""

import asyncio
from typing import Any

import aiohttp
import pytest

from sidecar.web.limits import QUERIES_AT_ONCE
from tests.upstreams import STUDY, ScriptedEhr, ScriptedPacs, sidecar_between
from tests.web.test_stream import HEADERS, PATH


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """No retrieval is asked for."""


@pytest.mark.parametrize(("issuer", "limit"), [("HOSPITAL", "1"), ("The Hospital", "500")])
async def test_a_limit_is_passed_on_only_when_all_rows_are_the_patients(issuer: str, limit: str) -> None:
    """Orthanc 1.10 reads no encoded space: a wildcard stands for it, and the first row may be somebody else's."""
    pacs = ScriptedPacs(nothing)
    changes = {"pacs": {"dialect": "orthanc"}, "patients": {"mapping": "direct", "issuer": issuer}}
    async with sidecar_between(ScriptedEhr(), pacs, **changes) as (url, _), aiohttp.ClientSession() as client:
        root = url + PATH.removesuffix(f"/studies/{STUDY}")
        async with client.get(f"{root}/studies?limit=1", headers=HEADERS) as response:
            assert response.status == 200
    asked = [
        target
        for target in pacs.requests
        if "PatientID" in target and "includefield=PatientID,IssuerOfPatientID,StudyInstanceUID" in target
    ]
    assert f"limit={limit}" in asked[0].split("&")
    # Its row names no issuer and is left out: that was not the end of the patient's own.
    assert "limit=500" in asked[-1].split("&")


async def test_slow_retrievals_take_no_connection_from_the_queries() -> None:
    """Whoever holds all retrievals' connections cannot keep others from searching and from being checked."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await end.wait()

    changes = {"pacs": {"max_connections": 1, "timeout_seconds": 60, "patience_seconds": None}}
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(hang), **changes) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        slow = asyncio.create_task(client.get(url + PATH, headers=HEADERS))
        await begun.wait()
        root = url + PATH.removesuffix(f"/studies/{STUDY}")
        async with asyncio.timeout(60), client.get(f"{root}/studies", headers=HEADERS) as response:
            assert response.status == 200
            assert len(await response.json(content_type=None)) == 1
        end.set()
        (await slow).close()


async def test_questions_about_absent_studies_wait_for_each_other() -> None:
    """So many at the PACS at once for one patient, however many are asked; and every one is answered."""
    pacs = ScriptedPacs(nothing)
    running, most = 0, 0

    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar), aiohttp.ClientSession() as client:
        observe = sidecar.pacs._page

        async def page(*arguments: Any, **named: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return await observe(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sidecar.pacs, "_page", page)

            async def ask(number: int) -> int:
                async with client.get(f"{url}/wado-rs/studies/1.2.9.{number}", headers=HEADERS) as response:
                    return response.status

            assert set(await asyncio.gather(*(ask(number) for number in range(100)))) == {404}
    assert 1 < most <= QUERIES_AT_ONCE[-1]
