"""Two EHRs on one Orthanc, a sidecar each: patients who share a number and a FHIR id are two.

What keeps them apart is ``patients.issuer``; tokens, capability URLs, links and trails are each
sidecar's own (docs/ehr.md, "Several EHRs on one archive").
"""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.ehr import ScriptedEhr, active
from tests.fakes.site import sidecar_between
from tests.real.issuers import put_study
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Client, Served

NUMBER = "12345"
SITES = ("NORTH", "SOUTH")
STUDIES = {site: f"1.2.826.0.1.3680043.8.498.8.{at}" for at, site in enumerate(SITES, 1)}
FORMS = (
    "",
    "/metadata",
    "/series",
    "/rendered",
    "/series/{study}.1",
    "/series/{study}.1/metadata",
    "/series/{study}.1/instances/{study}.1.1",
    "/series/{study}.1/instances/{study}.1.1/frames/1",
    "/series/{study}.1/instances/{study}.1.1/rendered",
    "/series/{study}.1/instances/{study}.1.1/bulkdata/7FE00010",
)

pytestmark = pytest.mark.orthanc


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Each EHR's patient has a study of one instance, under the same PatientID."""
    require_orthanc()
    with Orthanc() as running:
        for site, study in STUDIES.items():
            folder = tmp_path_factory.mktemp(site)
            put_study(running, folder, study, patient_id=NUMBER, issuer=site)
        yield running


@dataclass(frozen=True)
class Release:
    """A sidecar of one EHR: an app's client with its token, and the file of the audit trail."""

    client: Client
    trail: Path
    token: str


@contextlib.asynccontextmanager
async def release(orthanc: Orthanc, site: str, folder: Path) -> AsyncIterator[Release]:
    """Run the sidecar of an EHR; its token is unknown to any other EHR."""
    token, trail = f"token-of-{site}", folder / f"{site}.ndjson"
    keys = folder / f"{site}.keys"
    keys.write_text("one " + ("a" if site == "NORTH" else "b") * 64)
    keys.chmod(0o600)
    ehr = ScriptedEhr(
        lambda asked: (
            active(NUMBER) if asked == token else {"active": False}
        )  # The id is the number.
    )
    async with (
        sidecar_between(
            ehr,
            Served(orthanc),
            pacs={"dialect": "orthanc"},
            patients={"mapping": "direct", "issuer": site},
            capabilities={"mode": "token_bound", "keys_file": str(keys)},
            audit={"sink": "file", "file": str(trail)},
        ) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as us,
    ):
        yield Release(Client(url, us), trail, token)


@contextlib.asynccontextmanager
async def both(orthanc: Orthanc, folder: Path) -> AsyncIterator[dict[str, Release]]:
    """Run both sidecars."""
    async with (
        release(orthanc, "NORTH", folder) as north,
        release(orthanc, "SOUTH", folder) as south,
    ):
        yield {"NORTH": north, "SOUTH": south}


@pytest.mark.parametrize("site", SITES)
async def test_each_sees_its_own_patient_alone(orthanc: Orthanc, tmp_path: Path, site: str) -> None:
    """In searches, in queries, and in each form of a retrieval; nor does a trail name the other."""
    other = STUDIES[next(one for one in SITES if one != site)]
    async with both(orthanc, tmp_path) as releases:
        client = releases[site].client
        bundle = await client.bundle("/fhir/ImagingStudy")
        assert bundle["total"] == 1
        assert STUDIES[site] in json.dumps(bundle)
        assert other not in json.dumps(bundle)
        assert await client.rows("/wado-rs/studies") == [STUDIES[site]]
        statuses = {}
        for form in FORMS:
            own, foreign = (
                f"/wado-rs/studies/{study}" + form.format(study=study)
                for study in (STUDIES[site], other)
            )
            statuses[form] = (await client.get(own))[0], (await client.get(foreign))[0]
        assert statuses == dict.fromkeys(FORMS, (200, 404))
        assert (await client.get(f"/fhir/ImagingStudy/{other}"))[0] == 404
        trail = releases[site].trail.read_text()
        assert STUDIES[site] in trail
    silent = next(one for one in SITES if one != site)
    assert not releases[silent].trail.exists() or not releases[silent].trail.read_text()


async def test_what_one_has_given_opens_nothing_at_the_other(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    """A token, a capability URL, and a link to a page are each release's own."""
    async with both(orthanc, tmp_path) as releases:
        north, south = releases["NORTH"], releases["SOUTH"]
        bundle = await north.client.bundle("/fhir/ImagingStudy?_include=ImagingStudy:endpoint")
        (address,) = (
            entry["resource"]["address"]
            for entry in bundle["entry"]
            if entry["resource"]["resourceType"] == "Endpoint"
        )
        path = "/capability" + address.partition("/capability")[2] + f"/studies/{STUDIES['NORTH']}"
        assert (await north.client.get(path))[0] == 200
        assert (await south.client.get(path))[0] in (403, 404)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {north.token}"}) as us,
            us.get(f"{south.client.url}/fhir/ImagingStudy") as answer,
        ):
            assert answer.status == 401
