"""The way to a patient's images in front of a real tiny_pacs: PS3.18 without metadata, frames and
half of the searches.

It matches by keyword alone, ignores every key that it does not know, takes a list of UIDs for one,
answers 204 where nothing matches, and sends no Content-Length.
"""

import contextlib
import io
import re
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pydicom
import pytest
import requests
from aiohttp import web

from sidecar.demo.samples import fill
from sidecar.server.listener import listen
from tests.fakes.ehr import SCOPE, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.tiny_pacs.server import TinyPacs, require_tiny_pacs

pytestmark = pytest.mark.tiny_pacs

OWN, OTHER = "77654033", "98890234"
JSON = "application/dicom+json"
OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
TAGS = {"PatientID": "00100020", "StudyInstanceUID": "0020000D", "SeriesInstanceUID": "0020000E"}


class Samples:
    """The demo's images of two patients, by study: UID -> series -> instances."""

    def __init__(self, directory: Path) -> None:
        fill(directory)
        self.paths: dict[str, list[Path]] = {OWN: [], OTHER: []}
        self.studies: dict[str, dict[str, dict[str, set[str]]]] = {OWN: {}, OTHER: {}}
        for path in sorted(directory.iterdir()):
            image = pydicom.dcmread(path, stop_before_pixels=True)
            if image.PatientID in self.paths:
                self.paths[image.PatientID].append(path)
                study = self.studies[image.PatientID].setdefault(image.StudyInstanceUID, {})
                study.setdefault(image.SeriesInstanceUID, set()).add(image.SOPInstanceUID)

    def one(self, patient: str) -> tuple[str, str, str]:
        """Return the UIDs of one instance."""
        study, all_series = next(iter(self.studies[patient].items()))
        series, instances = next(iter(all_series.items()))
        return study, series, min(instances)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return Samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def archive(samples: Samples) -> Iterator[TinyPacs]:
    require_tiny_pacs()
    with TinyPacs() as running:
        running.load(path for paths in samples.paths.values() for path in paths)
        yield running


class Client:
    """The patient's app at a sidecar."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def get(self, path: str, accept: str | None = None) -> tuple[int, str, bytes]:
        """Return status, Content-Type and body."""
        headers = {"Accept": accept} if accept else {}
        async with self._session.get(self._url + path, headers=headers) as response:
            return response.status, response.headers.get("Content-Type", ""), await response.read()

    async def json(self, path: str) -> Any:
        """Return the JSON of a 200."""
        async with self._session.get(self._url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json(content_type=None)


@contextlib.asynccontextmanager
async def app_at(pacs: Any) -> AsyncIterator[Client]:
    ehr = ScriptedEhr(
        {"active": True, "scope": SCOPE, "client_id": "app", "exp": 9_999_999_999, "patient": OWN}
    )
    async with (
        sidecar_between(ehr, pacs) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        yield Client(url, session)


def uids(rows: list[dict[str, Any]], tag: str = "0020000D") -> set[str]:
    return {row[tag]["Value"][0] for row in rows}


def files_in(multipart: bytes, content_type: str) -> list[bytes]:
    match = re.search(r'boundary="?([^";]+)', content_type)
    assert match is not None
    parts = multipart.split(b"--" + match[1].encode())
    assert parts[-1] == b"--\r\n"
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]]


async def test_the_search_has_the_patients_studies(archive: TinyPacs, samples: Samples) -> None:
    async with app_at(archive) as client:
        bundle = await client.json("/fhir/ImagingStudy")
        found = {
            entry["resource"]["identifier"][0]["value"]: entry["resource"]
            for entry in bundle["entry"]
        }
        assert set(found) == {f"urn:oid:{uid}" for uid in samples.studies[OWN]}
        for uid, series in samples.studies[OWN].items():
            listed = found[f"urn:oid:{uid}"]["series"]
            assert {one["uid"] for one in listed} == set(series)
        of_one = await client.json(
            f"/fhir/ImagingStudy?identifier=urn:oid:{next(iter(samples.studies[OWN]))}"
        )
        assert of_one["total"] == 1


async def test_qido_has_the_patients_rows(archive: TinyPacs, samples: Samples) -> None:
    async with app_at(archive) as client:
        assert uids(await client.json("/wado-rs/studies")) == set(samples.studies[OWN])
        pages = [
            uids(await client.json(f"/wado-rs/studies?limit=1&offset={offset}"))
            for offset in range(3)
        ]
        assert [len(page) for page in pages] == [1, 1, 0]
        assert pages[0] | pages[1] == set(samples.studies[OWN])
        for study, all_series in samples.studies[OWN].items():
            assert uids(await client.json(f"/wado-rs/studies/{study}/series"), "0020000E") == set(
                all_series
            )
            for series, instances in all_series.items():
                rows = await client.json(f"/wado-rs/studies/{study}/series/{series}/instances")
                assert uids(rows, "00080018") == set(instances)


def files_of(archive: TinyPacs, samples: Samples, study: str) -> dict[tuple[str, str], bytes]:
    """Return the files of the patient's study as the archive itself gives them, by series and
    instance.
    """
    return {
        (series, instance): requests.get(
            f"{archive.dicomweb_url}/studies/{study}/series/{series}/instances/{instance}",
            headers={"Accept": "application/dicom"},
            timeout=60,
        ).content
        for series, instances in samples.studies[OWN][study].items()
        for instance in instances
    }


async def test_retrievals_have_the_archives_bytes(archive: TinyPacs, samples: Samples) -> None:
    """Of a study its instances are counted series by series:
    it has no list of a study's instances.
    """
    async with app_at(archive) as client:
        for study in samples.studies[OWN]:
            files = files_of(archive, samples, study)
            path = f"/wado-rs/studies/{study}"
            status, content_type, body = await client.get(path, OBJECTS)
            assert status == 200, body
            assert sorted(files_in(body, content_type)) == sorted(files.values())
            status, _, body = await client.get(path, "application/zip")
            assert status == 200
            with zipfile.ZipFile(io.BytesIO(body)) as written:
                assert sorted(map(written.read, written.namelist())) == sorted(files.values())
            for series in samples.studies[OWN][study]:
                status, content_type, body = await client.get(f"{path}/series/{series}", OBJECTS)
                assert status == 200, body
                expected = [file for (below, _), file in files.items() if below == series]
                assert sorted(files_in(body, content_type)) == sorted(expected)
            (series, instance), file = next(iter(files.items()))
            resource = f"{path}/series/{series}/instances/{instance}"
            status, content_type, body = await client.get(resource, OBJECTS)
            assert (status, files_in(body, content_type)) == (200, [file])
            assert await client.get(resource, "application/dicom") == (
                200,
                "application/dicom",
                file,
            )


ABSENT = "There is no such resource, or it is not available to you."
NO_SERIES, NO_INSTANCES, NO_METADATA = (
    f"The image archive does not offer {one} by DICOMweb."
    for one in ("series", "instances", "metadata")
)
# What tiny_pacs has not -> status, and what the client is told.
LACKS: dict[str, tuple[str, int, str]] = {
    "a patient's series": ("series", 501, NO_SERIES),
    "a patient's instances": ("instances", 501, NO_INSTANCES),
    "a study's instances": ("studies/{study}/instances", 501, NO_INSTANCES),
    "metadata of a study": ("studies/{study}/metadata", 501, NO_METADATA),
    "metadata of an instance": (
        "studies/{study}/series/{series}/instances/{instance}/metadata",
        501,
        NO_METADATA,
    ),
    "a frame": ("studies/{study}/series/{series}/instances/{instance}/frames/1", 404, ABSENT),
    "drawn": ("studies/{study}/series/{series}/instances/{instance}/rendered", 404, ABSENT),
    "a thumbnail": ("studies/{study}/thumbnail", 404, ABSENT),
    "bulk data": (
        "studies/{study}/series/{series}/instances/{instance}/bulkdata/7FE00010",
        404,
        ABSENT,
    ),
}


@pytest.mark.parametrize("what", LACKS)
async def test_what_it_has_not_is_refused(archive: TinyPacs, samples: Samples, what: str) -> None:
    resource, status, text = LACKS[what]
    study, series, instance = samples.one(OWN)
    async with app_at(archive) as client:
        found, _, body = await client.get(
            f"/wado-rs/{resource.format(study=study, series=series, instance=instance)}"
        )
    assert (found, f'"{text}"' in body.decode()) == (status, True), body


FOREIGN = (
    "studies/{study}",
    "studies/{study}/series",
    "studies/{study}/instances",
    "studies/{study}/metadata",
    "studies/{study}/series/{series}",
    "studies/{study}/series/{series}/instances",
    "studies/{study}/series/{series}/instances/{instance}",
    "studies/{study}/series/{series}/instances/{instance}/frames/1",
    "studies/{own}/series/{series}",
    "studies/{own}/series/{series}/instances",
    "studies/{own}/series/{series}/instances/{instance}",
)


@pytest.mark.parametrize("resource", FOREIGN)
async def test_another_patients_is_absent(
    archive: TinyPacs, samples: Samples, resource: str
) -> None:
    study, series, instance = samples.one(OTHER)
    own, *_ = samples.one(OWN)
    async with app_at(archive) as client:
        foreign = await client.get(
            f"/wado-rs/{resource.format(own=own, study=study, series=series, instance=instance)}"
        )
        absent = await client.get(
            "/wado-rs/"
            + resource.format(own=own, study="1.2.3", series="1.2.3.4", instance="1.2.3.4.5")
        )
        assert foreign[0] == 404
        assert foreign == absent
        assert await client.get(f"/fhir/ImagingStudy/{study}") == await client.get(
            "/fhir/ImagingStudy/1.2.3"
        )


KEYS = (
    "PatientID=98890234",
    "00100020=98890234",
    "StudyDescription=none",
    "00081030=none",
    "BodyPartExamined=none",
    "includefield=all",
    "StudyInstanceUID={study}",
    "0020000D={study}",
    "limit=100",
    "SeriesInstanceUID={series}",
)


@pytest.mark.parametrize("keys", KEYS)
async def test_keys_that_it_ignores_bring_nobody_elses_rows(
    archive: TinyPacs, samples: Samples, keys: str
) -> None:
    study, series, _ = samples.one(OTHER)
    async with app_at(archive) as client:
        status, _, body = await client.get(
            f"/wado-rs/studies?{keys.format(study=study, series=series)}", JSON
        )
    assert status in (200, 404)
    assert not any(uid in body.decode() for uid in samples.studies[OTHER])


def test_it_ignores_tags(archive: TinyPacs, samples: Samples) -> None:
    """The premise of the next test, and why queries name attributes by keyword."""
    rows = requests.get(f"{archive.dicomweb_url}/studies?00100020={OWN}", timeout=60).json()
    assert uids(rows) == {uid for studies in samples.studies.values() for uid in studies}


class Forgetful:
    """tiny_pacs behind a relay that writes some keys by tag, or leaves them out:
    it ignores these.
    """

    def __init__(self, archive: TinyPacs, ignored: set[str]) -> None:
        self._root, self._ignored = archive.dicomweb_url, ignored
        self.met: set[str] = set()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/dicomweb/{path:.*}", self._relay)
        async with listen(app, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}/dicomweb"

    async def _relay(self, request: web.Request) -> web.Response:
        pairs = parse_qsl(request.query_string)
        self.met |= {name for name, _ in pairs} & self._ignored
        kept = [
            (TAGS.get(name, "x") if name in self._ignored else name, value) for name, value in pairs
        ]
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"{self._root}/{request.match_info['path']}",
                params=kept,
                headers={"Accept": request.headers.get("Accept", "*/*")},
            ) as response,
        ):
            headers = (
                {"Content-Type": value} if (value := response.headers.get("Content-Type")) else {}
            )
            return web.Response(status=response.status, body=await response.read(), headers=headers)


IGNORED: dict[str, tuple[set[str], set[int]]] = {
    "the patient": ({"PatientID"}, {200}),
    "the study": ({"StudyInstanceUID"}, {200, 502}),
    "patient and study": ({"PatientID", "StudyInstanceUID"}, {200, 502}),
    "patient, study and series": (set(TAGS), {200, 502}),
    "the page's size": ({"limit"}, {200, 502}),
    "everything": ({*TAGS, "limit", "offset"}, {200, 502}),
}


@pytest.mark.parametrize("what", IGNORED)
async def test_rows_of_an_archive_that_ignores_keys_do_not_leak(
    archive: TinyPacs, samples: Samples, what: str
) -> None:
    """Its rows of the other patient come, and are compared: no answer has any of them."""
    ignored, statuses = IGNORED[what]
    study, series, instance = samples.one(OTHER)
    own, own_series, *_ = samples.one(OWN)
    foreign = {
        uid for uid, all_series in samples.studies[OTHER].items() for uid in (uid, *all_series)
    }
    relay = Forgetful(archive, ignored)
    async with app_at(relay) as client:
        for path in (
            "/fhir/ImagingStudy",
            "/wado-rs/studies",
            "/wado-rs/studies?limit=1",
            "/wado-rs/studies?limit=1&offset=1",
            f"/wado-rs/studies?StudyInstanceUID={own}",
            f"/wado-rs/studies/{own}/series",
            f"/wado-rs/studies/{own}/series/{own_series}/instances",
            f"/wado-rs/studies/{own}",
        ):
            status, _, body = await client.get(path)
            assert status in statuses, (path, status, body)
            assert not any(uid.encode() in body for uid in foreign), path
        for path in (
            f"/wado-rs/studies/{study}",
            f"/wado-rs/studies/{study}/series",
            f"/fhir/ImagingStudy/{study}",
            f"/wado-rs/studies/{study}/series/{series}/instances/{instance}",
            f"/wado-rs/studies/{own}/series/{series}",
            f"/wado-rs/studies/{own}/series/{series}/instances/{instance}",
        ):
            status, _, body = await client.get(path)
            assert status in {404, *(statuses - {200})}, (path, status, body)
    assert relay.met >= ignored - {"offset"}  # Of so few studies there is one page.
