"""A public URL with a path: a proxy may pass the path on or strip it (decision 0058)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sidecar.settings.server import _OWN_ROOTS
from sidecar.web.target import base_path_of, without_base_path
from tests.attacks.raw import RawAnswer, answers, request, send
from tests.capability_keys import token_bound
from tests.fakes.archive import STUDY, RowArchive
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.fhir.rows import row
from tests.tables.targets import ATTACKS
from tests.web.records import events, to

BASE = "/imaging"
PUBLIC_URL = f"https://hospital.example.org{BASE}"
SEARCH = f"/fhir/ImagingStudy?patient={PATIENT}&_count=1"
ROWS = [
    row(
        PatientID=PATIENT,
        StudyInstanceUID=uid,
        SeriesInstanceUID=f"{uid}.1",
        SOPInstanceUID=f"{uid}.1.1",
        RetrieveURL=f"http://pacs.example.org/rs/studies/{uid}",
    )
    for uid in (STUDY, f"{STUDY}.7")
]


class Client:
    """Sends raw requests to a sidecar whose trail is ``trail``."""

    def __init__(self, port: int, trail: Path) -> None:
        self.port, self.trail = port, trail

    async def get(self, target: str, *lines: str, host: str = "hospital.example.org") -> RawAnswer:
        (answer,) = answers(await send(self.port, request(target, *lines, host=host)))
        return answer


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Asks a sidecar with two studies and capability URLs."""
    trail = tmp_path / "trail"
    async with sidecar_between(
        ScriptedEhr(),
        RowArchive(*ROWS),
        server={"public_url": PUBLIC_URL, "wado_uri": True},
        capabilities=token_bound(tmp_path),
        audit=to(trail),
    ) as (url, _):
        yield Client(int(url.rpartition(":")[2]), trail)


def links_in(text: str) -> list[str]:
    """Every URL of ours in a document."""
    return [part for part in text.split('"') if part.startswith("https://hospital.example.org")]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/fhir/metadata",
        "/fhir/.well-known/smart-configuration",
        "/fhir/StructureDefinition/number-of-frames",
        SEARCH,
        f"/fhir/Patient/{PATIENT}/ImagingStudy",
        f"/fhir/ImagingStudy/{STUDY}",
        f"/fhir/Endpoint/{PATIENT}",
        f"/fhir/Patient/{PATIENT}/$wado-rs/studies",
        f"/fhir/Patient/{PATIENT}/%24wado-rs/studies/{STUDY}/series",
        "/wado-rs/studies?limit=1",
    ],
)
async def test_both_ways_lead_to_the_same_answer(client: Client, path: str) -> None:
    stripped, passed_on = await client.get(path), await client.get(BASE + path)
    absolute = await client.get(PUBLIC_URL + path)
    for answer in (stripped, passed_on, absolute):
        assert answer.status == 200
        assert all(link.startswith(PUBLIC_URL + "/") for link in links_in(answer.body.decode()))
        assert all(link.count(BASE) == 1 for link in links_in(answer.body.decode()))
    if "StructureDefinition" in path or path.startswith("/wado-rs"):
        assert stripped.body == passed_on.body == absolute.body


async def test_links_lead_on(client: Client) -> None:
    """The next page, the Endpoint of a capability URL, and RetrieveURL are below the path."""
    first = json.loads((await client.get(BASE + SEARCH)).body)
    following = next(one["url"] for one in first["link"] if one["relation"] == "next")
    assert following.startswith(PUBLIC_URL + "/fhir/ImagingStudy?")
    below = following.removeprefix("https://hospital.example.org")
    for target in (below, below.removeprefix(BASE)):
        second = json.loads((await client.get(target)).body)
        assert second["entry"][0]["resource"]["id"] != first["entry"][0]["resource"]["id"]
    (root,) = {
        one["resource"]["address"]
        for one in first["entry"]
        if one["resource"]["resourceType"] == "Endpoint"
    }
    assert root.startswith(PUBLIC_URL + "/capability/")
    path = urlsplit(root).path
    for target in (path, path.removeprefix(BASE)):
        (row,) = json.loads((await client.get(f"{target}/studies")).body)
        assert row["00081190"]["Value"][0] == f"{root}/studies/{STUDY}"


async def test_the_trail_has_the_same_search_both_ways(client: Client) -> None:
    for base in ("", BASE):
        assert (await client.get(f"{base}/wado-rs/studies?limit=1")).status == 200
    one, other = ([e for e in event["entity"] if "query" in e] for event in events(client.trail))
    assert one
    assert one == other


@pytest.mark.parametrize("target", [one for one in ATTACKS if "\ud800" not in one], ids=repr)
async def test_no_spelling_becomes_a_resource_below_the_path(client: Client, target: str) -> None:
    """The path is taken away once, as it is written."""
    for path in (BASE + target, BASE + BASE + target, f"{BASE}/fhir{target}"):
        received = answers(await send(client.port, request(path)))
        assert all(answer.status >= 400 for answer in received)


@pytest.mark.parametrize(
    "target",
    [
        "/imaging",
        "/imaging?a=b",
        "/imaging/imaging/fhir/metadata",
        "/imagingx/fhir/metadata",
        "/Imaging/fhir/metadata",
        "/%69maging/fhir/metadata",
        "/imaging%2Ffhir/metadata",
        "/imaging//fhir/metadata",
        "//imaging/fhir/metadata",
        "/imaging/../imaging/fhir/metadata",
        "/imaging/./fhir/metadata",
        "/x/imaging/fhir/metadata",
        "/imaging//evil.example.org/fhir/metadata",
    ],
)
async def test_what_is_not_below_the_path_is_absent(client: Client, target: str) -> None:
    assert (await client.get(target)).status == 404


async def test_an_absolute_target_of_another_host_is_refused(client: Client) -> None:
    answer = await client.get(f"https://other.example.org{BASE}/fhir/metadata")
    assert answer.status == 400


async def test_pages_may_call_below_the_path(client: Client) -> None:
    answer = await client.get(BASE + SEARCH, "Origin: https://app.example.org")
    assert answer.header("access-control-allow-origin") is not None


@pytest.mark.parametrize(
    ("raw", "below"),
    [
        ("/imaging/fhir", "/fhir"),
        ("/imaging/", "/"),
        ("/imaging", "/imaging"),
        ("/imaging/imaging/x", "/imaging/x"),
        ("https://h/imaging/x?y", "https://h/x?y"),
        ("/x?/imaging/y", "/x?/imaging/y"),
        ("*", "*"),
    ],
)
def test_the_path_is_taken_away_once(raw: str, below: str) -> None:
    assert without_base_path(raw, BASE) == below


def test_a_root_has_no_path() -> None:
    assert base_path_of("https://h.example.org") == base_path_of("https://h.example.org/") == ""
    assert base_path_of("https://h.example.org/a/b/") == "/a/b"


async def test_roots_that_settings_refuse_are_those_of_the_routes() -> None:
    """A path that begins as one of ours could be read in two ways."""
    async with sidecar_between(ScriptedEhr(), RowArchive(*ROWS), server={"wado_uri": True}) as (
        _,
        sidecar,
    ):
        roots = {
            resource.canonical.split("/")[1] for resource in sidecar.public.router.resources()
        } - {"", "{tail}"}
    assert roots | {"capability"} == set(_OWN_ROOTS)
