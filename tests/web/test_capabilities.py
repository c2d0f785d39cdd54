"""Capability URLs as apps meet them: bearer and token-bound, revoked, out of time (SIA-33, 50..54)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.imagingstudy import ImagingStudy
from prometheus_client import generate_latest

from sidecar.fhir.endpoint import REQUIRES_ACCESS_TOKEN
from tests.common.peer import all_that_is_said
from tests.upstreams import PATIENT, STUDY, TOKEN, ScriptedEhr, ScriptedPacs, sidecar_between
from tests.waiting import wait_until_async
from tests.web.test_stream import MULTIPART, PART, answer

WHOLE = PART * 3 + b"--abc--\r\n"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OTHER = {"Authorization": "Bearer another-token"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """One key."""
    file = tmp_path / "keys"
    file.write_text(f"# a key\none {'1' * 64}\n")
    return file


def pacs() -> ScriptedPacs:
    """With one study."""
    return ScriptedPacs(answer(MULTIPART + b"Content-Length: %d\r\n" % len(WHOLE), WHOLE), instances=3)


async def endpoint_of(us: aiohttp.ClientSession, url: str, path: str = "/fhir/ImagingStudy") -> dict[str, Any]:
    """The study's contained Endpoint; its address is on this test's own port."""
    async with us.get(url + path, headers=HEADERS) as found:
        body = await found.json()
        assert found.status == 200, body
        assert found.headers["Cache-Control"] == "private, no-store"
    study = body["entry"][0]["resource"] if body["resourceType"] == "Bundle" else body
    (Bundle if body["resourceType"] == "Bundle" else ImagingStudy).model_validate(body)
    (endpoint,) = study["contained"]
    assert study["endpoint"] == [{"reference": "#" + endpoint["id"]}]
    endpoint["address"] = endpoint["address"].replace("http://sidecar.example.org", url)
    return dict(endpoint)


async def status(us: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None) -> int:
    """Of a GET."""
    async with us.get(url, headers=headers or {}) as found:
        if found.status == 200:
            await found.read()
        else:
            assert (await found.json())["resourceType"] == "OperationOutcome"
        assert found.headers["Referrer-Policy"] == "no-referrer"
        assert "no-store" in found.headers["Cache-Control"]
        return found.status


async def test_an_address_that_is_the_permission(keys_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SIA-50: no token beside it, and ``requires-access-token`` says so; SIA-33: contained, for this answer alone."""
    capabilities = {"mode": "bearer", "keys_file": str(keys_file)}
    with caplog.at_level("DEBUG"):
        async with (
            sidecar_between(ScriptedEhr(), pacs(), capabilities=capabilities) as (url, sidecar),
            aiohttp.ClientSession() as us,
        ):
            endpoint = await endpoint_of(us, url)
            assert endpoint["extension"] == [{"url": REQUIRES_ACCESS_TOKEN, "valueBoolean": False}]
            assert endpoint["period"]["end"]
            root = endpoint["address"]
            assert root.startswith(f"{url}/capability/one.")
            async with us.get(f"{root}/studies/{STUDY}") as found:
                assert found.status == 200
                assert await found.read() == WHOLE
            async with us.get(f"{root}/studies") as found:
                (row,) = await found.json()
                assert row["0020000D"]["Value"] == [STUDY]
            assert await status(us, f"{root}/studies/{STUDY}", OTHER) == 200  # A token beside it does not matter.
            read = await endpoint_of(us, url, f"/fhir/ImagingStudy/{STUDY}")
            assert await status(us, f"{read['address']}/studies/{STUDY}") == 200
            metrics = generate_latest(sidecar.metrics.registry)
            assert b"smart_imaging_capability_urls_issued_total 2.0" in metrics
    sealed = root.rpartition("/")[2]
    assert sealed not in all_that_is_said(caplog)
    assert sealed.encode() not in metrics


async def test_an_address_that_needs_its_token(keys_file: Path) -> None:
    """SIA-50: both, and bound to each other."""
    capabilities = {"mode": "token_bound", "keys_file": str(keys_file)}
    async with (
        sidecar_between(ScriptedEhr(), pacs(), capabilities=capabilities) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        endpoint = await endpoint_of(us, url)
        assert endpoint["extension"] == [{"url": REQUIRES_ACCESS_TOKEN, "valueBoolean": True}]
        study = f"{endpoint['address']}/studies/{STUDY}"
        assert await status(us, study) == 401
        assert await status(us, study, OTHER) == 403  # A good token, of the same patient even.
        assert await status(us, study, HEADERS) == 200


@pytest.mark.parametrize("mode", ["bearer", "token_bound"])
async def test_it_is_for_nothing_else(keys_file: Path, mode: str) -> None:
    """SIA-51: nothing that is appended widens it, and nobody is asked about what it is not for."""
    archive = pacs()
    capabilities = {"mode": mode, "keys_file": str(keys_file), "operations": ["retrieve"]}
    async with (
        sidecar_between(ScriptedEhr(), archive, capabilities=capabilities) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        root = (await endpoint_of(us, url))["address"]
        asked = len(archive.requests)
        for path, wanted in (
            ("/studies/1.2.840.2", 404), ("/studies/1.2.840.2/metadata", 404), ("/studies/1.2.840.2/series/1.2", 404),
            (f"/studies/{STUDY}/series", 403), ("/studies", 403), ("/series", 403), ("/studies/1.2.840.2/series", 404),
            (f"/studies/{STUDY}/../1.2.840.2", 404), ("/ImagingStudy", 404), ("/metadata", 404), ("/studies/x", 400),
        ):  # fmt: skip
            assert await status(us, root + path, HEADERS) == wanted, path
        for other in (root[:-1], root[:-1] + ("A" if root[-1] != "A" else "B"), root + "A", url + "/capability/one.x"):
            assert await status(us, f"{other}/studies/{STUDY}", HEADERS) == 404
        assert await status(us, f"{url}/capability/{root.rpartition('.')[2]}/studies/{STUDY}") == 404
        assert len(archive.requests) == asked


async def test_it_ends_with_its_token(keys_file: Path) -> None:
    """SIA-52: never later than the token, however long it may live."""
    ehr = ScriptedEhr()
    ehr.answer["exp"] = 4_000_000_000
    capabilities = {"mode": "bearer", "keys_file": str(keys_file), "lifetime_seconds": 0.05}
    async with sidecar_between(ehr, pacs(), capabilities=capabilities) as (url, _), aiohttp.ClientSession() as us:
        root = (await endpoint_of(us, url))["address"]
        last = await wait_until_async(
            "its end", lambda: status(us, f"{root}/studies/{STUDY}"), lambda found: found != 200
        )
        assert last == 403


async def test_a_token_that_is_seen_revoked_takes_its_addresses_with_it(keys_file: Path) -> None:
    """SIA-53: at once, in the process that saw it."""
    ehr = ScriptedEhr()
    changes = {"capabilities": {"mode": "bearer", "keys_file": str(keys_file)}}
    tokens = {"cache": {"ttl_seconds": 0.01}}
    async with sidecar_between(ehr, pacs(), tokens=tokens, **changes) as (url, _), aiohttp.ClientSession() as us:
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        ehr.answer = {"active": False}
        await asyncio.sleep(0.05)
        assert await status(us, study) == 200  # Nobody has told us yet.
        assert (
            await status(us, url + "/fhir/ImagingStudy", OTHER) == 401
        )  # Another token's end says nothing of this one.
        assert await status(us, study) == 200
        assert await status(us, url + "/fhir/ImagingStudy", HEADERS) == 401
        assert await status(us, study) == 403


@pytest.mark.parametrize(("recheck", "after"), [(0, 403), (3_600, 200)])
async def test_the_token_behind_an_address_is_checked_again(keys_file: Path, recheck: float, after: int) -> None:
    """Where the site wants that, no more often than it says."""
    ehr = ScriptedEhr()
    capabilities = {"mode": "bearer", "keys_file": str(keys_file), "recheck_seconds": recheck}
    tokens = {"cache": {"ttl_seconds": 0.01}}
    async with (
        sidecar_between(ehr, pacs(), tokens=tokens, capabilities=capabilities) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        assert await status(us, study) == 200
        ehr.answer = {"active": False}
        await asyncio.sleep(0.05)
        assert await status(us, study) == after
        ehr.status = 500
        assert await status(us, study) == after  # What was seen revoked stays so.


async def test_an_address_whose_token_cannot_be_checked_is_not_served(keys_file: Path) -> None:
    """SIA-16."""
    ehr = ScriptedEhr()
    capabilities = {"mode": "bearer", "keys_file": str(keys_file), "recheck_seconds": 0}
    tokens = {"cache": {"ttl_seconds": 0.01}}
    async with (
        sidecar_between(ehr, pacs(), tokens=tokens, capabilities=capabilities) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        ehr.status = 500
        await asyncio.sleep(0.05)
        assert await status(us, study) == 503


async def test_a_token_too_long_to_be_sealed_gets_the_standing_endpoint(keys_file: Path) -> None:
    capabilities = {"mode": "bearer", "keys_file": str(keys_file), "recheck_seconds": 60}
    headers = {"Authorization": "Bearer " + "x" * 5_000}
    async with (
        sidecar_between(ScriptedEhr(), pacs(), capabilities=capabilities) as (url, _),
        aiohttp.ClientSession() as us,
        us.get(url + "/fhir/ImagingStudy?_include=ImagingStudy:endpoint", headers=headers) as found,
    ):
        bundle = await found.json()
        assert bundle["entry"][0]["resource"]["endpoint"] == [{"reference": f"Endpoint/{PATIENT}"}]
        assert bundle["entry"][1]["resource"]["id"] == PATIENT


async def test_who_may_search_only_gets_no_address(keys_file: Path) -> None:
    """SIA-52: what the token could not fetch, no address can."""
    ehr = ScriptedEhr()
    ehr.answer["scope"] = "patient/ImagingStudy.s"
    capabilities = {"mode": "bearer", "keys_file": str(keys_file)}
    async with (
        sidecar_between(ehr, pacs(), capabilities=capabilities) as (url, _),
        aiohttp.ClientSession() as us,
        us.get(url + "/fhir/ImagingStudy", headers=HEADERS) as found,
    ):
        assert "contained" not in (await found.json())["entry"][0]["resource"]


async def test_an_address_is_decided_on_again_at_each_use(keys_file: Path) -> None:
    """A study that is another patient's by now, a scope that does not lead to it: 404 as ever."""
    archive = pacs()
    ehr = ScriptedEhr()
    changes: dict[str, Any] = {
        "capabilities": {"mode": "bearer", "keys_file": str(keys_file)},
        "fhir": {"search_cache_seconds": 0.01},
    }
    pacs_settings = {"ownership_cache_seconds": 0.01}
    async with (
        sidecar_between(ehr, archive, pacs=pacs_settings, **changes) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        assert await status(us, study) == 200
        archive.patient_id = "somebody-else"
        await asyncio.sleep(0.05)
        assert await status(us, study) == 404


async def test_off_there_is_no_such_route(keys_file: Path) -> None:
    on = {"mode": "bearer", "keys_file": str(keys_file)}
    async with sidecar_between(ScriptedEhr(), pacs(), capabilities=on) as (url, _), aiohttp.ClientSession() as us:
        sealed = (await endpoint_of(us, url))["address"].rpartition("/")[2]
    async with sidecar_between(ScriptedEhr(), pacs()) as (url, _), aiohttp.ClientSession() as us:
        assert await status(us, f"{url}/capability/{sealed}/studies/{STUDY}", HEADERS) == 404
    bound = {"mode": "token_bound", "keys_file": str(keys_file)}
    async with sidecar_between(ScriptedEhr(), pacs(), capabilities=bound) as (url, _), aiohttp.ClientSession() as us:
        assert await status(us, f"{url}/capability/{sealed}/studies/{STUDY}") == 401  # The site wants tokens now.
        assert await status(us, f"{url}/capability/{sealed}/studies/{STUDY}", HEADERS) == 200


async def test_the_trail_names_the_token_and_not_the_address(keys_file: Path, tmp_path: Path) -> None:
    """SIA-60: the search that issued it and what was fetched by it are one token's; SIA-54: the address is nowhere."""
    file = tmp_path / "audit.jsonl"
    changes = {
        "capabilities": {"mode": "bearer", "keys_file": str(keys_file)},
        "audit": {"sink": "file", "file": str(file)},
    }
    async with sidecar_between(ScriptedEhr(), pacs(), **changes) as (url, _), aiohttp.ClientSession() as us:
        root = (await endpoint_of(us, url))["address"]
        assert await status(us, f"{root}/studies/{STUDY}") == 200
        assert await status(us, f"{root}/studies/{STUDY}/instances") == 200
        assert await status(us, f"{root}/studies/1.2.840.2") == 404
    written = file.read_text()
    assert root.rpartition("/")[2] not in written
    events = [json.loads(line) for line in written.splitlines()]
    assert len(events) >= 4
    named = [json.dumps(event) for event in events]
    assert all("app" in one and PATIENT in one for one in named)


async def test_what_the_token_may_do_now_is_what_counts(keys_file: Path) -> None:
    """With rechecks: a scope that was taken away, or another patient, counts at once."""
    for now in ({"scope": "openid"}, {"patient": "p2"}):
        ehr = ScriptedEhr()
        capabilities = {"mode": "bearer", "keys_file": str(keys_file), "recheck_seconds": 0}
        tokens = {"cache": {"ttl_seconds": 0.01}}
        async with (
            sidecar_between(ehr, pacs(), tokens=tokens, capabilities=capabilities) as (url, _),
            aiohttp.ClientSession() as us,
        ):
            study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
            assert await status(us, study) == 200
            ehr.answer |= now
            await asyncio.sleep(0.05)
            assert await status(us, study) == 403
