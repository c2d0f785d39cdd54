"""Capability URLs as apps meet them: with their token, revoked, out of time (SIA-33, 50..54)."""

import json
import time
from base64 import b64decode
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import generate_latest

from tests.authorization.capability_urls import HEADERS, bound, endpoint_of, keys_file
from tests.common.peer import all_that_is_said
from tests.fakes.archive import STUDY, RowArchive, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr, to_the_token
from tests.fakes.retrievals import MULTIPART, PART, answer
from tests.fakes.site import PUBLIC_URL, sidecar_between
from tests.fhir.profile import check_bundle
from tests.fhir.rows import row
from tests.waiting import wait_until_async

__all__ = ["keys_file"]

WHOLE = PART * 3 + b"--abc--\r\n"
OTHER = {"Authorization": "Bearer another-token"}


def pacs() -> ScriptedPacs:
    """With one study."""
    return ScriptedPacs(
        answer(MULTIPART + b"Content-Length: %d\r\n" % len(WHOLE), WHOLE), instances=3
    )


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


async def test_an_address_works_with_its_token_alone(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-50: both, and bound to each other; SIA-54: the address is in no log and no metric."""
    with caplog.at_level("DEBUG"):
        async with (
            sidecar_between(ScriptedEhr(), pacs(), capabilities=bound(keys_file)) as (url, sidecar),
            aiohttp.ClientSession() as us,
        ):
            endpoint = await endpoint_of(us, url)
            assert "extension" not in endpoint
            assert endpoint["period"]["end"]
            root = endpoint["address"]
            assert root.startswith(f"{url}/capability/one.")
            study = f"{root}/studies/{STUDY}"
            assert await status(us, study) == 401
            assert await status(us, study, OTHER) == 403  # A good token, of the same patient even.
            async with us.get(study, headers=HEADERS) as found:
                assert found.status == 200
                assert await found.read() == WHOLE
            async with us.get(f"{root}/studies", headers=HEADERS) as found:
                (row,) = await found.json()
                assert row["0020000D"]["Value"] == [STUDY]
            metrics = generate_latest(sidecar.metrics.registry)
            assert b"smart_imaging_capability_urls_issued_total 1.0" in metrics
    sealed = root.rpartition("/")[2]
    assert sealed not in all_that_is_said(caplog)
    assert sealed.encode() not in metrics


@pytest.mark.parametrize(
    "query",
    ["", "?_include=ImagingStudy:endpoint", "?_count=1", "?_elements=endpoint", "?_summary=true"],
)
async def test_its_endpoint_is_on_the_page_of_its_study(keys_file: Path, query: str) -> None:
    """SIA-33: also when the request has no ``_include``; a new one in each answer."""
    async with (
        sidecar_between(ScriptedEhr(), pacs(), capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        first, second = [await endpoint_of(us, url, query) for _ in range(2)]
        assert first["address"] != second["address"]
        assert first["id"] != second["id"]
        async with us.get(f"{url}/fhir/Endpoint/{first['id']}", headers=HEADERS) as read:
            assert read.status == 404


async def test_a_read_has_the_standing_endpoint(keys_file: Path) -> None:
    """SIA-33: an Endpoint that carries a capability is an entry of a Bundle, and a read is none."""
    async with (
        sidecar_between(ScriptedEhr(), pacs(), capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
        us.get(f"{url}/fhir/ImagingStudy/{STUDY}", headers=HEADERS) as found,
    ):
        assert (await found.json())["endpoint"] == [{"reference": f"Endpoint/{PATIENT}"}]


async def test_it_is_for_nothing_else(keys_file: Path) -> None:
    """SIA-51: nothing that is appended widens it, and nobody is asked about what it is not for."""
    archive = pacs()
    async with (
        sidecar_between(
            ScriptedEhr(), archive, capabilities=bound(keys_file, operations=["retrieve"])
        ) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        root = (await endpoint_of(us, url))["address"]
        asked = len(archive.requests)
        for path, wanted in (
            ("/studies/1.2.840.2", 404),
            ("/studies/1.2.840.2/metadata", 404),
            ("/studies/1.2.840.2/series/1.2", 404),
            (f"/studies/{STUDY}/series", 403),
            ("/studies", 403),
            ("/series", 403),
            ("/studies/1.2.840.2/series", 404),
            (f"/studies/{STUDY}/../1.2.840.2", 404),
            ("/ImagingStudy", 404),
            ("/metadata", 404),
            ("/studies/x", 400),
        ):
            assert await status(us, root + path, HEADERS) == wanted, path
        for other in (
            root[:-1],
            root[:-1] + ("A" if root[-1] != "A" else "B"),
            root + "A",
            url + "/capability/one.x",
        ):
            assert await status(us, f"{other}/studies/{STUDY}", HEADERS) == 403
        assert (
            await status(us, f"{url}/capability/{root.rpartition('.')[2]}/studies/{STUDY}", HEADERS)
            == 403
        )
        assert len(archive.requests) == asked


async def test_it_ends(keys_file: Path) -> None:
    """SIA-52: expired is 403, while its token is good."""
    ehr = ScriptedEhr()
    ehr.answer["exp"] = 4_000_000_000
    changes = {"capabilities": bound(keys_file), "limits": {"capability_lifetime_seconds": 0.05}}
    async with (
        sidecar_between(ehr, pacs(), **changes) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        last = await wait_until_async(
            "its end", lambda: status(us, study, HEADERS), lambda found: found != 200
        )
        assert last == 403


async def test_it_ends_no_later_than_its_token(keys_file: Path) -> None:
    """SIA-52: however long it may live."""
    ehr = ScriptedEhr()
    ends = int(time.time()) + 60
    ehr.answer["exp"] = ends
    changes = {"capabilities": bound(keys_file), "limits": {"capability_lifetime_seconds": 3_600}}
    async with (
        sidecar_between(ehr, pacs(), **changes) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        until = (await endpoint_of(us, url))["period"]["end"]
    assert datetime.fromisoformat(until).timestamp() == ends


async def test_all_are_revoked_by_taking_the_key_away(keys_file: Path) -> None:
    """SIA-52: revoked is 403."""
    async with (
        sidecar_between(ScriptedEhr(), pacs(), capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        path = (await endpoint_of(us, url))["address"].removeprefix(url) + f"/studies/{STUDY}"
        assert await status(us, url + path, HEADERS) == 200
    keys_file.write_text(f"two {'2' * 64}\n")
    async with (
        sidecar_between(ScriptedEhr(), pacs(), capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        assert await status(us, url + path, HEADERS) == 403
        assert await status(us, url + path) == 401


@pytest.mark.parametrize(
    ("now", "wanted"),
    [({"active": False}, 401), ({"scope": "openid"}, 403), ({"patient": "p2"}, 403)],
)
async def test_what_the_token_may_do_now_is_what_counts(
    keys_file: Path, now: dict[str, Any], wanted: int
) -> None:
    """SIA-50, 53: a token that was revoked, lost its scope or is another patient's takes its
    addresses with it.
    """
    ehr = ScriptedEhr()
    tokens = {"cache": {"ttl_seconds": 0.01}}
    async with (
        sidecar_between(ehr, pacs(), tokens=tokens, capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        assert await status(us, study, HEADERS) == 200
        ehr.answer |= now
        last = await wait_until_async(
            "the token's new answer", lambda: status(us, study, HEADERS), lambda found: found != 200
        )
        assert last == wanted


async def test_after_a_refusal_a_new_search_brings_an_address_that_works(keys_file: Path) -> None:
    """SIA-55: the app's token ended and it has another; the old address is a 401, then a 403."""
    ehr = ScriptedEhr()
    tokens, new = {"cache": {"ttl_seconds": 0.01}}, {"Authorization": "Bearer refreshed"}
    query = f"?patient={PATIENT}&identifier=urn:oid:{STUDY}"
    async with (
        sidecar_between(ehr, pacs(), tokens=tokens, capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        old = f"{(await endpoint_of(us, url, query))['address']}/studies/{STUDY}"
        ehr.answer = to_the_token({"active": False}, unknown=ehr.answer)
        last = await wait_until_async(
            "the token's end", lambda: status(us, old, HEADERS), lambda found: found != 200
        )
        assert last == 401
        assert await status(us, old, new) == 403
        root = (await endpoint_of(us, url, query, new))["address"]
        assert await status(us, f"{root}/studies/{STUDY}", new) == 200


async def test_an_address_whose_token_cannot_be_checked_is_not_served(keys_file: Path) -> None:
    """SIA-16."""
    ehr = ScriptedEhr()
    tokens = {"cache": {"ttl_seconds": 0.01}}
    async with (
        sidecar_between(ehr, pacs(), tokens=tokens, capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        ehr.status = 500
        last = await wait_until_async(
            "the EHR's fault", lambda: status(us, study, HEADERS), lambda found: found != 200
        )
        assert last == 503


async def test_who_may_search_only_gets_no_address(keys_file: Path) -> None:
    """SIA-52: what the token could not fetch, no address can."""
    ehr = ScriptedEhr()
    ehr.answer["scope"] = "patient/ImagingStudy.s"
    async with (
        sidecar_between(ehr, pacs(), capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
        us.get(url + "/fhir/ImagingStudy", headers=HEADERS) as found,
    ):
        (entry,) = (await found.json())["entry"]
        assert entry["resource"]["endpoint"] == [{"reference": f"Endpoint/{PATIENT}"}]


async def test_an_address_is_decided_on_again_at_each_use(keys_file: Path) -> None:
    """A study that is another patient's by now, a scope that does not lead to it: 404 as ever."""
    archive = pacs()
    ehr = ScriptedEhr()
    changes: dict[str, Any] = {
        "capabilities": bound(keys_file),
        "limits": {"search_cache_seconds": 0.01, "ownership_cache_seconds": 0.01},
    }
    async with (
        sidecar_between(ehr, archive, **changes) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        study = f"{(await endpoint_of(us, url))['address']}/studies/{STUDY}"
        assert await status(us, study, HEADERS) == 200
        archive.patient_id = "somebody-else"
        last = await wait_until_async(
            "the new owner", lambda: status(us, study, HEADERS), lambda found: found != 200
        )
        assert last == 404


async def test_off_there_is_no_such_route(keys_file: Path) -> None:
    async with (
        sidecar_between(ScriptedEhr(), pacs(), capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        sealed = (await endpoint_of(us, url))["address"].rpartition("/")[2]
    async with sidecar_between(ScriptedEhr(), pacs()) as (url, _), aiohttp.ClientSession() as us:
        assert await status(us, f"{url}/capability/{sealed}/studies/{STUDY}", HEADERS) == 404


async def test_the_trail_names_the_token_and_not_the_address(
    keys_file: Path, tmp_path: Path
) -> None:
    """SIA-60: the search that issued it and what was fetched by it are one token's; SIA-54: the
    address is nowhere.
    """
    file = tmp_path / "audit.jsonl"
    changes = {
        "capabilities": bound(keys_file),
        "audit": {"sink": "file", "file": str(file)},
    }
    async with (
        sidecar_between(ScriptedEhr(), pacs(), **changes) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        root = (await endpoint_of(us, url))["address"]
        assert await status(us, f"{root}/studies/{STUDY}", HEADERS) == 200
        assert await status(us, f"{root}/studies/{STUDY}/instances", HEADERS) == 200
        assert await status(us, f"{root}/studies/1.2.840.2", HEADERS) == 404
    written = file.read_text()
    events = [json.loads(line) for line in written.splitlines()]
    assert len(events) >= 4
    named = [json.dumps(event) for event in events]
    queries = [
        b64decode(entity["query"]).decode()
        for event in events
        for entity in event["entity"]
        if "query" in entity
    ]
    assert any("/capability/instances" in query for query in queries)
    assert root.rpartition("/")[2] not in "".join([written, *queries])
    assert all("app" in one and PATIENT in one for one in named)


async def test_each_page_has_the_endpoints_of_its_studies(keys_file: Path) -> None:
    """SIA-33: of these alone, each its own, without ``_include``."""
    series = {"SeriesInstanceUID": "1.2.3", "Modality": "CT", "PatientID": PATIENT}
    rows = [row(StudyInstanceUID=f"1.2.840.{number}", **series) for number in (1, 2, 3)]
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(*rows), capabilities=bound(keys_file)) as (
            url,
            _,
        ),
        aiohttp.ClientSession(headers=HEADERS) as us,
    ):
        following, studies, roots = f"{url}/fhir/ImagingStudy?_count=2", [], set()
        while following:
            async with us.get(following) as found:
                bundle = await found.json(content_type=None)
            check_bundle(bundle)
            entries = bundle["entry"]
            matches = [one["resource"] for one in entries if one["search"]["mode"] == "match"]
            local = {one["fullUrl"]: one["resource"] for one in entries[len(matches) :]}
            named = [one["endpoint"][0]["reference"] for one in matches]
            assert list(local) == named
            studies += [one["id"] for one in matches]
            roots |= {one["address"] for one in local.values()}
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            following = links.get("next", "").replace(PUBLIC_URL, url)
        assert sorted(studies) == ["1.2.840.1", "1.2.840.2", "1.2.840.3"]
        assert len(roots) == 3
