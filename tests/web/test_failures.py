"""What an app sees when the EHR or the PACS fails: a status that means something, and never an
image (SIA-16).
"""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import HEADERS, sidecar_between

ROUTES = (
    f"/fhir/ImagingStudy?patient={PATIENT}",
    f"/wado-rs/studies/{STUDY}",
    f"/wado-rs/studies/{STUDY}/metadata",
)
ACTIVE: dict[str, Any] = ScriptedEhr().answer

INTROSPECTION_FAULTS: dict[str, ScriptedEhr] = {
    "500": ScriptedEhr(answer="oops", status=500),
    "not JSON": ScriptedEhr(answer="<html>"),
    "an array": ScriptedEhr(answer=[ACTIVE]),
    "active twice": ScriptedEhr(answer='{"active": false, "exp": 9999999999, "active": true}'),
    "slow": ScriptedEhr(delay=5),
    "redirect": ScriptedEhr(answer="", status=302),
}


@pytest.mark.parametrize("fault", INTROSPECTION_FAULTS)
async def test_a_failing_introspection_is_503(fault: str) -> None:
    """Never a pass, and the client is told when to come back."""
    ehr, pacs = INTROSPECTION_FAULTS[fault], ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ehr, pacs, limits={"ehr_timeout_seconds": 0.3}) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for route in ROUTES:
            async with client.get(url + route) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) > 0
                assert (await response.json(content_type=None))["issue"][0]["code"] == "transient"
    assert pacs.requests == []


@pytest.mark.parametrize(
    "changes",
    [
        {"active": "true"},
        {"active": 1},
        {"patient": {"id": PATIENT}},
        {"sub": 4711},
        {"scope": [1]},
    ],
    ids=str,
)
async def test_an_introspection_that_never_fits_is_502(changes: dict[str, Any]) -> None:
    """Never a pass, and no "try again": what the server says of this token will be the same the
    next time.
    """
    ehr, pacs = ScriptedEhr(answer=ACTIVE | changes), ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ehr, pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for route in ROUTES:
            async with client.get(url + route) as response:
                assert response.status == 502
                assert "Retry-After" not in response.headers
    assert pacs.requests == []


async def test_an_answer_without_exp_is_good_until_it_is_asked_for_again() -> None:
    """RFC 7662: ``exp`` is optional. Once what is remembered has ended, the authorization server
    says what it is.
    """
    ehr, pacs = ScriptedEhr(), ScriptedPacs(GOOD["chunked"])
    ehr.answer = {name: value for name, value in ACTIVE.items() if name != "exp"}
    tokens = {"cache": {"ttl_seconds": 300}}
    async with (
        sidecar_between(ehr, pacs, tokens=tokens) as (url, sidecar),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for _ in range(2):
            async with client.get(url + ROUTES[0]) as response:
                assert response.status == 200
        assert ehr.introspections == 1
        sidecar.tokens.cache._answers.forget(None)  # As when its time is over.
        async with client.get(url + ROUTES[0]) as response:
            assert response.status == 200
        ehr.answer = {"active": False}
        sidecar.tokens.cache._answers.forget(None)
        async with client.get(url + ROUTES[0]) as response:
            assert response.status == 401


async def test_an_ehr_that_is_down_is_503() -> None:
    """Nothing listens."""
    pacs = ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ScriptedEhr(), pacs, ehr={"fhir_url": "http://127.0.0.1:9/fhir"}) as (
            url,
            _,
        ),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for route in ROUTES:
            async with client.get(url + route) as response:
                assert response.status == 503
                assert "Retry-After" in response.headers
    assert pacs.requests == []


async def test_wrong_client_credentials_are_502_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The operators read what to look at; the client reads that it is not its fault."""
    ehr, pacs = (
        ScriptedEhr(answer={"error": "invalid_client"}, status=401),
        ScriptedPacs(GOOD["chunked"]),
    )
    async with (
        sidecar_between(ehr, pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for route in ROUTES:
            async with client.get(url + route) as response:
                assert response.status == 502
    assert "check tokens.client" in caplog.text
    assert TOKEN not in caplog.text
    assert pacs.requests == []


async def test_simultaneous_requests_cause_one_introspection() -> None:
    """One new token, a hundred requests at once, an EHR that takes a while."""
    ehr, pacs = ScriptedEhr(delay=0.3), ScriptedPacs(GOOD["chunked"])
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        sidecar_between(ehr, pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS, connector=connector) as client,
    ):

        async def search() -> int:
            async with client.get(url + ROUTES[0]) as response:
                return response.status

        statuses = await asyncio.gather(*(search() for _ in range(100)))
    assert set(statuses) == {200}
    assert ehr.introspections == 1
    # The lists are cached and asked for once, too: the number's issuers, the studies, their owners,
    # the series.
    assert len(pacs.requests) == 4


async def test_an_expired_token_is_not_served_from_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIA-10: exp is looked at for each request."""
    ehr, pacs = ScriptedEhr(), ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ehr, pacs) as (url, sidecar),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        async with client.get(url + ROUTES[0]) as response:
            assert response.status == 200
        ehr.answer = {"active": False}
        monkeypatch.setattr(sidecar.tokens.cache, "_clock", lambda: float(ACTIVE["exp"]))
        async with client.get(url + ROUTES[0]) as response:
            assert response.status == 401
            assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


async def test_a_pacs_that_is_down_is_503() -> None:
    """Not a denial, not an empty Bundle."""
    pacs = ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ScriptedEhr(), pacs, pacs={"url": "http://127.0.0.1:9/dicom-web"}) as (
            url,
            _,
        ),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for route in ROUTES:
            async with client.get(url + route) as response:
                assert response.status == 503
                assert "Retry-After" in response.headers


async def test_an_unknown_patient_has_an_empty_bundle() -> None:
    """A PACS that returns somebody else's rows for the query: they are dropped and counted."""
    pacs = ScriptedPacs(GOOD["chunked"], patient_id="somebody-else")
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + ROUTES[0]) as response,
    ):
        bundle = await response.json(content_type=None)
        assert bundle["total"] == 0
        assert "entry" not in bundle
        dropped = sidecar.metrics.registry.get_sample_value(
            "smart_imaging_verification_failures_total", {"what": "study_row"}
        )
        assert dropped == 1


async def test_a_post_body_is_bounded() -> None:
    """413 with an OperationOutcome."""
    pacs = ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.post(
            url + "/fhir/ImagingStudy/_search", data={"patient": "x" * 100_000}
        ) as response,
    ):
        assert response.status == 413
        assert (await response.json(content_type=None))["resourceType"] == "OperationOutcome"


async def test_another_patient_in_a_post_body_is_403() -> None:
    """Query string and body both count: neither can take the other back."""
    pacs = ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.post(
            f"{url}/fhir/ImagingStudy/_search?patient={PATIENT}", data={"patient": "another"}
        ) as response,
    ):
        assert response.status == 403
    assert pacs.requests == []
