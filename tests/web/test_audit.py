"""The trail of real requests (SIA-60): before the answer leaves, each decision, each transfer's
end; or no answer.
"""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from sidecar.web.stream_body import SHORT_BYTES
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.web.records import events, to, told

PNG = b"\x89PNG\r\n\x1a\n"
RENDERED = f"/wado-rs/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/rendered"


async def draw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 8\r\n\r\n" + PNG)


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Longer than what leaves only when it is whole.
    length = b"Content-Length: %d\r\n" % (SHORT_BYTES + 1)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n" + length + b"\r\n" + PNG)


async def get(url: str, path: str, token: str | None = TOKEN) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url + path) as response,
    ):
        await response.read()
        return response.status


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


async def test_a_search_is_told_once_with_patient_and_user(file: Path) -> None:
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(draw), audit=to(file)) as (url, _):
        assert await get(url, f"/fhir/ImagingStudy?patient={PATIENT}") == 200
        assert await get(url, "/wado-rs/studies") == 200
    first, second = events(file)
    assert first["entity"][0]["what"]["identifier"]["value"].endswith(f"/Patient/{PATIENT}")
    assert (first["type"]["code"], second["type"]["code"]) == ("rest", "110112")
    assert TOKEN not in file.read_text()
    assert first["agent"][2]["policy"] == second["agent"][2]["policy"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/fhir/ImagingStudy", f"/fhir/Patient/{PATIENT}/ImagingStudy"])
async def test_a_search_is_told_as_one_by_whatever_way_it_comes(
    file: Path, path: str, method: str
) -> None:
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(draw), audit=to(file)) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.request(method, f"{url}{path}/_search") as response,
    ):
        assert response.status == 200
    (told_once,) = events(file)
    assert told_once["subtype"][0]["code"] == "search"
    assert told_once["entity"][0]["what"]["identifier"]["value"].endswith(f"/Patient/{PATIENT}")


async def test_a_transfer_is_told_at_its_beginning_and_its_end(file: Path) -> None:
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(draw), audit=to(file)) as (url, _):
        assert await get(url, RENDERED) == 200
    assert told(file) == [("0", "permitted"), ("0", "status 200")]
    assert STUDY in json.dumps(events(file)[0]["entity"])


async def test_a_transfer_that_breaks_off_is_serious(file: Path) -> None:
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(break_off), audit=to(file)) as (url, _):
        with pytest.raises(aiohttp.ClientError):
            await get(url, RENDERED)
    assert told(file) == [("0", "permitted"), ("8", "pacs_broken")]


async def test_refusals_are_told_with_what_was_asked_for(file: Path) -> None:
    foreign = ScriptedPacs(draw, patient_id="another")
    async with sidecar_between(ScriptedEhr(), foreign, audit=to(file)) as (url, _):
        assert await get(url, RENDERED) == 404
        assert await get(url, "/fhir/ImagingStudy?patient=p2") == 403
        assert await get(url, "/fhir/ImagingStudy", None) == 401  # Nobody asked: nothing to tell.
    assert told(file) == [("4", "foreign"), ("4", "other_patient")]
    assert STUDY in json.dumps(events(file)[0])
    assert "/Patient/p2" in json.dumps(events(file)[1])


async def test_a_token_that_is_not_active_is_an_alert(file: Path) -> None:
    async with sidecar_between(
        ScriptedEhr(answer={"active": False}), ScriptedPacs(draw), audit=to(file)
    ) as (url, _):
        assert await get(url, "/wado-rs/studies") == 401
    assert [one["type"]["code"] for one in events(file)] == ["110113"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("path", [RENDERED, "/wado-rs/studies", "/fhir/ImagingStudy"])
async def test_what_cannot_be_told_is_not_answered(path: str) -> None:
    pacs = ScriptedPacs(draw)
    async with sidecar_between(ScriptedEhr(), pacs, audit=to(Path("/dev/full"))) as (url, sidecar):
        assert await get(url, path) == 503
        assert (
            b'smart_imaging_audit_events_total{outcome="failed",sink="file"} '
            in sidecar.metrics.expose()
        )
    assert not any("rendered" in request for request in pacs.requests)


async def test_off_is_the_default(file: Path) -> None:
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(draw)) as (url, sidecar):
        assert await get(url, RENDERED) == 200
        assert (
            b'smart_imaging_audit_events_total{outcome="written",sink="none"} 0.0'
            in sidecar.metrics.expose()
        )
