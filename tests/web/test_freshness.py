"""How old a list may be, who waits for a slow one, and what a client has already (SIA-23, 25)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from sidecar.bootstrap.build import Sidecar
from sidecar.server.listener import listen
from tests.fakes.ehr import TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.web.lists import STUDY, Archive


@contextlib.asynccontextmanager
async def app_of(
    archive: Archive, ehr: ScriptedEhr | None, /, **changes: dict[str, Any]
) -> AsyncIterator[tuple[aiohttp.ClientSession, str, Sidecar]]:
    """A client with its token, the sidecar's URL, the sidecar."""
    fhir = {"fhir": {"detail": "study"}}
    limits = {"search_cache_seconds": 60} | changes.pop("limits", {})
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        sidecar_between(ehr or ScriptedEhr(), archive, **fhir | changes, limits=limits) as (
            url,
            sidecar,
        ),
        aiohttp.ClientSession(headers=headers) as session,
    ):
        yield session, url + "/fhir/ImagingStudy", sidecar


async def total(session: aiohttp.ClientSession, url: str, **headers: str) -> int:
    async with session.get(url, headers=headers) as response:
        assert response.status == 200
        return int((await response.json())["total"])


async def test_a_list_is_remembered_and_a_client_can_have_a_fresh_one() -> None:
    archive = Archive()
    async with app_of(archive, None) as (session, url, _):
        assert await total(session, url) == 1
        archive.studies.append("1.2.840.2")
        assert await total(session, url) == 1
        assert await total(session, url, **{"Cache-Control": "no-cache"}) == 2
        assert archive.lists == 2


async def test_no_client_asks_the_archive_as_often_as_it_likes() -> None:
    archive = Archive()
    async with app_of(archive, None) as (session, url, _):
        for _ in range(20):
            await total(session, url, **{"Cache-Control": "max-age=0"})
        assert archive.lists == 1


async def test_what_is_remembered_is_forgotten_on_demand() -> None:
    """The admin port's POST /admin/invalidate; a GET is none."""
    archive = Archive()
    async with (
        app_of(archive, None) as (session, url, sidecar),
        listen(sidecar.admin, "127.0.0.1", 0) as port,
    ):
        assert await total(session, url) == 1
        archive.studies.clear()
        async with session.get(f"http://127.0.0.1:{port}/admin/invalidate") as response:
            assert response.status == 405
        assert await total(session, url) == 1
        async with session.post(f"http://127.0.0.1:{port}/admin/invalidate") as response:
            assert response.status == 204
        assert await total(session, url) == 0
        async with session.post(url.replace("/fhir/ImagingStudy", "/admin/invalidate")) as response:
            assert response.status in (404, 405)


async def test_permissions_are_never_remembered_with_the_data() -> None:
    """The list is; the token is asked for each time that its own cache says so."""
    ehr, archive = ScriptedEhr(), Archive()
    cache: dict[str, Any] = {
        "client": {"method": "none"},
        "cache": {"ttl_seconds": 0.05},
    }
    async with app_of(archive, ehr, tokens=cache) as (session, url, _):
        assert await total(session, url) == 1
        ehr.answer = {"active": False}
        await asyncio.sleep(0.1)
        async with session.get(url) as response:
            assert response.status == 401
        assert archive.lists == 1


SLOW: dict[str, dict[str, Any]] = {"limits": {"defer_after_seconds": 0.2, "deferred_seconds": 60}}


async def repeated(session: aiohttp.ClientSession, url: str) -> tuple[list[int], dict[str, Any]]:
    """The statuses until the answer came, and the answer. A search is two queries: of whom, and
    what.
    """
    statuses: list[int] = []
    for _ in range(1_000):
        async with session.get(url) as response:
            statuses.append(response.status)
            body = await response.json()
            if response.status == 200:
                return statuses, body
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert body["issue"][0]["code"] == "transient"
    raise AssertionError(statuses)


async def test_a_slow_search_goes_on_and_the_retry_gets_it() -> None:
    """SIA-23: 503 with Retry-After at once, one query for all, then the answer."""
    archive = Archive(delay=0.6)
    async with app_of(archive, None, **SLOW) as (session, url, _):
        statuses, bundle = await repeated(session, url)
        assert (statuses[0], bundle["total"], archive.lists) == (503, 1, 1)


async def test_many_clients_of_a_slow_search_cost_one_query() -> None:
    archive = Archive(delay=0.6)
    async with app_of(archive, None, **SLOW) as (session, url, _):
        found = await asyncio.gather(*(repeated(session, url) for _ in range(30)))
        # Some wait for their turn until the answer is there.
        assert {503} <= {statuses[0] for statuses, _ in found} <= {200, 503}
        assert archive.lists == 1


async def test_a_client_that_never_returns_leaves_nothing() -> None:
    before, archive = asyncio.all_tasks(), Archive(delay=30)
    async with app_of(archive, None, **SLOW) as (session, url, _), session.get(url) as response:
        assert response.status == 503
    assert asyncio.all_tasks() == before


async def test_a_slow_check_of_a_study_is_a_503_too() -> None:
    archive = Archive(delay=0.6)
    async with app_of(archive, None, **SLOW) as (session, url, _):
        path = url.replace("/fhir/ImagingStudy", f"/wado-rs/studies/{STUDY}/metadata")
        async with session.get(path) as response:
            assert (response.status, "Retry-After" in response.headers) == (503, True)


async def test_without_patience_a_slow_search_is_a_504() -> None:
    archive = Archive(delay=5)
    changes: dict[str, dict[str, Any]] = {
        "limits": {"defer_after_seconds": None, "pacs_timeout_seconds": 0.3}
    }
    async with app_of(archive, None, **changes) as (session, url, _), session.get(url) as response:
        assert response.status == 504


async def test_a_search_older_than_a_sync_is_not_taken_for_a_new_one() -> None:
    """A list is as old as the first request for it, however late its answer: its meta.lastUpdated
    says so.
    """
    archive = Archive(delay=0.6)
    async with app_of(archive, None, **SLOW) as (session, url, _):
        before = datetime.now(UTC)
        _, bundle = await repeated(session, url)
        asked = datetime.fromisoformat(bundle["meta"]["lastUpdated"])
        assert before - timedelta(milliseconds=1) <= asked <= archive.asked_at[-1]
        archive.delay = 0
        assert await total(session, url + "?_lastUpdated=gt" + bundle["meta"]["lastUpdated"]) == 1


async def test_a_search_that_costs_the_archive_too_much_is_refused() -> None:
    """Studies times UIDs; what the other parameters leave out does not count."""
    archive = Archive([f"1.2.{number}" for number in range(30)])
    many = ",".join(f"1.3.{number}" for number in range(50))
    async with app_of(archive, None) as (session, url, _):
        async with session.get(f"{url}?dicom-class={many}") as response:
            assert response.status == 400
            assert (await response.json())["issue"][0]["code"] == "too-costly"
        assert await total(session, f"{url}?dicom-class={many}&_id=1.2.7") == 0


FORMATS = {
    "_format=application/fhir+json": "4",
    "_format=application/fhir%2Bjson": "4",
    "_format=json": "4",
    "_format=json;fhirVersion=5.0": "5",
    "_format=application/fhir+json;fhirVersion=5.0": "5",
    "_format=json;fhirVersion=9.9": "406",
    "_format=xml": "406",
    "_format=json;;x": "406",
    "_format=json;fhirVersion=5.0.0": "5",
}
ACCEPTS = {
    "application/fhir+json;fhirVersion=4.0;q=0.1, application/fhir+json;fhirVersion=5.0": "5",
    "application/fhir+json;fhirVersion=5.0;q=0, application/fhir+json": "4",
    "application/fhir+json;fhirVersion=3.0": "406",
    "application/fhir+json;fhirVersion=5.0.0": "5",
    "application/fhir+json;fhirVersion=4.0.1": "4",
    "application/fhir+json;fhirVersion=4.3": "406",
    "application/fhir+json; fhirVersion=5.0": "5",
    "*/*": "4",
    "application/fhir+xml": "406",
}


async def test_which_version_is_answered() -> None:
    """R4 http.html#version-parameter; ``_format`` comes before the header."""
    async with app_of(Archive(), None) as (session, url, _):

        async def version(query: str, accept: str) -> str:
            async with session.get(f"{url}?{query}", headers={"Accept": accept}) as response:
                if response.status != 200:
                    return str(response.status)
                return (
                    "5"
                    if "coding" in (await response.json())["entry"][0]["resource"]["modality"][0]
                    else "4"
                )

        assert {
            query: await version(query, "application/fhir+json") for query in FORMATS
        } == FORMATS
        assert {accept: await version("", accept) for accept in ACCEPTS} == ACCEPTS
        assert await version("_format=json", "application/fhir+json; fhirVersion=5.0") == "5"
        assert await version("_format=json", "text/html") == "4"
