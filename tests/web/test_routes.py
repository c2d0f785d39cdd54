"""The public routes: what is there, 405 with Allow against 404, CORS on all of them, HEAD
(docs/api.md).
"""

import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from sidecar.bootstrap.build import Sidecar
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import sidecar_between

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
OPEN = [
    "/",
    "/fhir/metadata",
    "/fhir/StructureDefinition/number-of-frames",
    "/fhir/.well-known/smart-configuration",
]
SEARCH_BY_POST = "/fhir/ImagingStudy/_search"
COMPARTMENT_BY_POST = f"/fhir/Patient/{PATIENT}/ImagingStudy/_search"
FHIR = [
    f"/fhir/ImagingStudy?patient={PATIENT}",
    f"/fhir/Patient/{PATIENT}/ImagingStudy",
    SEARCH_BY_POST,
    COMPARTMENT_BY_POST,
    f"/fhir/ImagingStudy/{STUDY}",
    f"/fhir/Endpoint/{PATIENT}",
]
BELOW = [
    "/studies",
    f"/studies/{STUDY}",
    f"/studies/{STUDY}/series",
    f"/studies/{STUDY}/series/{SERIES}/instances",
]
DICOMWEB = [
    root + path for root in (f"/fhir/Patient/{PATIENT}/$wado-rs", "/wado-rs") for path in BELOW
]
PROTECTED = [*FHIR, *DICOMWEB, f"/fhir/Patient/{PATIENT}/%24wado-rs/studies/{STUDY}"]
NOWHERE = [
    "/x",
    "/fhir",
    "/fhir/",
    "/fhir/Patient",
    f"/fhir/Patient/{PATIENT}",
    "/fhir/Observation",
    "/FHIR/metadata",
    "/metadata",
    "/fhir/metadata/x",
    "/fhir/ImagingStudy/a/b",
    "/fhir/Patient/p1/$wado",
    f"/fhir/Patient/{PATIENT}/$wado-rs",
    "/wado-rs",
    "/wado-rs/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/.well-known/smart-configuration",
    "/fhir/$wado-rs/studies",
    "/%66hir/metadata",
]


class World:
    """A sidecar between two scripted upstreams."""

    def __init__(
        self, url: str, sidecar: Sidecar, pacs: ScriptedPacs, client: aiohttp.ClientSession
    ) -> None:
        self.url, self.sidecar, self.pacs, self.client = url, sidecar, pacs, client

    def request(
        self, method: str, path: str, **headers: str
    ) -> aiohttp.client._RequestContextManager:
        """A request with these headers (``_`` for ``-``)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # Encoded: the client would write "%66" as "f".
        return self.client.request(
            method, URL(self.url + path, encoded=True), headers=named, allow_redirects=False
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A running one."""
    pacs = ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        yield World(url, sidecar, pacs, client)


@pytest.mark.parametrize("path", OPEN)
async def test_what_is_open_needs_no_token(world: World, path: str) -> None:
    async with world.request("GET", path) as answer:
        assert answer.status == 200
        assert answer.content_type in ("application/json", "application/fhir+json")


@pytest.mark.parametrize("path", PROTECTED)
async def test_what_is_protected_needs_one_and_works_with_it(world: World, path: str) -> None:
    """And the archive hears nothing of a request without."""
    async with world.request("GET", path) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await answer.json(content_type=None))["resourceType"] == "OperationOutcome"
    assert world.pacs.requests == []
    async with world.request("GET", path, **AUTHORIZED) as answer:
        assert answer.status == 200
        assert await answer.read()


async def test_search_by_post(world: World) -> None:
    for path in (SEARCH_BY_POST, COMPARTMENT_BY_POST):
        async with world.client.post(world.url + path, data={"patient": PATIENT}) as answer:
            assert answer.status == 401
        for patient, total in ((PATIENT, 1), ("p2", None)):
            async with world.client.post(
                world.url + path, data={"patient": patient}, headers=AUTHORIZED
            ) as answer:
                assert answer.status == (403 if total is None else 200)
                assert (await answer.json(content_type=None)).get("total") == total


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_search_in_anothers_compartment_is_403(world: World, method: str) -> None:
    """SIA-22: whatever way it comes, and whatever the query names beside."""
    for query in ("", f"?patient={PATIENT}"):
        path = f"/fhir/Patient/p2/ImagingStudy/_search{query}"
        async with world.request(method, path, **AUTHORIZED) as answer:
            assert answer.status == 403
    assert world.pacs.requests == []


@pytest.mark.parametrize("path", [*OPEN, *PROTECTED])
async def test_head_is_get_without_a_body(world: World, path: str) -> None:
    """SIA-41: the same status and type, not one byte."""
    async with world.request("GET", path, **AUTHORIZED) as answer:
        status, content_type = answer.status, answer.headers["Content-Type"]
        await answer.read()
    async with world.request("HEAD", path, **AUTHORIZED) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (status, content_type)
        assert await answer.read() == b""
        assert "X-Request-Id" in answer.headers
    async with world.request("HEAD", path) as answer:
        assert answer.status == (401 if path in PROTECTED else 200)


@pytest.mark.parametrize("path", NOWHERE)
async def test_what_is_not_there_is_404(world: World, path: str) -> None:
    """Whatever the method, and with or without a token."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    for method, headers in itertools.product(methods, ({}, AUTHORIZED)):
        async with world.request(method, path, **headers) as answer:
            assert answer.status == 404, method
            assert "Allow" not in answer.headers
            assert answer.content_type == "application/fhir+json"
            if method != "HEAD":
                issue = (await answer.json(content_type=None))["issue"][0]
                assert issue == {
                    "severity": "error",
                    "code": "not-found",
                    "diagnostics": "There is no such resource, or it is not available to you.",
                }
    assert world.pacs.requests == []


@pytest.mark.parametrize("path", [*OPEN, *PROTECTED])
async def test_writes_are_405_with_what_is_allowed(world: World, path: str) -> None:
    """STOW-RS, deletion, FHIR create and update; the archive hears nothing of them."""
    reads = {"GET", "HEAD"} | ({"POST"} if path.endswith("/_search") else set())
    for method in sorted({"POST", "PUT", "PATCH", "DELETE"} - reads):
        async with world.request(method, path, **AUTHORIZED) as answer:
            assert answer.status == 405, method
            allowed = {one.strip() for one in answer.headers["Allow"].split(",")}
            assert reads <= allowed
            assert not {"POST", "PUT", "PATCH", "DELETE"} & (allowed - reads)
            assert (await answer.json(content_type=None))["issue"][0]["code"] == "not-supported"
    assert world.pacs.requests == []


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "LOCK"])
async def test_other_methods_are_405_with_what_is_allowed(world: World, method: str) -> None:
    """RFC 9110 15.5.6: Allow lists what the resource supports."""
    async with world.request(method, "/fhir/metadata", **AUTHORIZED) as answer:
        assert answer.status == 405
        assert not {"POST", "PUT", "PATCH", "DELETE"} & set(answer.headers["Allow"].split(","))


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "LOCK"])
@pytest.mark.parametrize("path", ["/fhir/metadata", f"/wado-rs/studies/{STUDY}"])
async def test_other_methods_do_nothing(world: World, path: str, method: str) -> None:
    """Nothing of the request comes back (TRACE), nothing goes to the archive."""
    async with world.request(method, path, **AUTHORIZED) as answer:
        assert answer.status == 405
        assert TOKEN not in await answer.text()
    assert world.pacs.requests == []


ORIGIN = "https://viewer.example.org"


@pytest.mark.parametrize("path", [*OPEN, *PROTECTED])
async def test_preflight(world: World, path: str) -> None:
    """As a browser asks before a request with a token; no token comes with it, and no credentials
    are allowed.
    """
    async with world.request(
        "OPTIONS",
        path,
        Origin=ORIGIN,
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="authorization",
    ) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] in (ORIGIN, "*")
        assert "GET" in answer.headers["Access-Control-Allow-Methods"]
        assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
        assert int(answer.headers["Access-Control-Max-Age"]) > 0
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert world.pacs.requests == []


async def test_preflight_of_a_search_by_post(world: World) -> None:
    async with world.request(
        "OPTIONS",
        SEARCH_BY_POST,
        Origin=ORIGIN,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type",
    ) as answer:
        assert answer.status == 200
        assert "content-type" in answer.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}, AUTHORIZED], ids=str)
async def test_options_that_is_no_preflight_names_the_methods(
    world: World, headers: dict[str, str]
) -> None:
    """RFC 9110 9.3.7: those of the route; whether the resource is there is not said."""
    for path in [*OPEN, *PROTECTED, "/fhir/ImagingStudy/9.9", "/wado-rs/studies/9.9"]:
        async with world.request("OPTIONS", path, **headers) as answer:
            assert (answer.status, await answer.read()) == (204, b"")
            posted = {"POST"} if path.endswith("/_search") else set()
            expected = {"GET", "HEAD", "OPTIONS"} | posted
            assert set(answer.headers["Allow"].split(", ")) == expected
            assert answer.headers["Access-Control-Allow-Origin"] in (ORIGIN, "*")
    async with world.request("OPTIONS", "/nowhere", **headers) as answer:
        assert (answer.status, "Allow" in answer.headers) == (404, False)
    assert world.pacs.requests == []


CROSS_ORIGIN: dict[str, tuple[str, str, int]] = {
    "open": ("GET", "/fhir/metadata", 200),
    "no token": ("GET", PROTECTED[0], 401),
    "no such path": ("GET", "/nowhere", 404),
    "an unusual spelling": ("GET", "/fhir/%2e%2e/metadata", 404),
    "a write": ("DELETE", "/fhir/metadata", 405),
}


@pytest.mark.parametrize("what", CROSS_ORIGIN)
async def test_pages_can_read_every_answer(world: World, what: str) -> None:
    """A page's script that cannot read an error shows none."""
    method, path, status = CROSS_ORIGIN[what]
    async with world.request(method, path, Origin=ORIGIN) as answer:
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] in (ORIGIN, "*")
        exposed = answer.headers["Access-Control-Expose-Headers"]
        assert {"Retry-After", "WWW-Authenticate", "X-Request-Id"} <= {
            one.strip() for one in exposed.split(",")
        }
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_pages_can_read_a_retrieval(world: World) -> None:
    async with world.request(
        "GET", f"/wado-rs/studies/{STUDY}", Origin=ORIGIN, **AUTHORIZED
    ) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] in (ORIGIN, "*")
        await answer.read()


async def test_only_the_configured_origins() -> None:
    pacs = ScriptedPacs(GOOD["chunked"])
    server = {"cors_origins": [ORIGIN]}
    async with (
        sidecar_between(ScriptedEhr(), pacs, server=server) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        world = World(url, sidecar, pacs, client)
        for origin, allowed in (
            (ORIGIN, ORIGIN),
            ("https://evil.example.org", None),
            ("null", None),
        ):
            async with world.request("GET", "/fhir/metadata", Origin=origin) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            async with world.request(
                "OPTIONS", "/fhir/metadata", Origin=origin, Access_Control_Request_Method="GET"
            ) as answer:
                assert (answer.status == 200) is (allowed is not None)
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed


async def test_each_route_has_its_label(world: World) -> None:
    """Names of routes, not paths."""
    for path in [*OPEN, *PROTECTED, "/nowhere", "/nowhere/else"]:
        async with world.request("GET", path, **AUTHORIZED) as answer:
            await answer.read()
    async with world.client.post(world.url + SEARCH_BY_POST, data={}, headers=AUTHORIZED):
        pass
    (family,) = (
        one
        for one in world.sidecar.metrics.registry.collect()
        if one.name == "smart_imaging_requests"
    )
    assert {sample.labels["route"] for sample in family.samples} == {
        "root",
        "metadata",
        "smart-configuration",
        "structure-definition",
        "imaging-study-search",
        "imaging-study-compartment",
        "imaging-study-compartment-post",
        "imaging-study-read",
        "imaging-study-search-post",
        "endpoint-read",
        "patient-wado-rs",
        "wado-rs",
        "unknown",
    }
    assert INSTANCE not in repr([sample.labels for sample in family.samples])
