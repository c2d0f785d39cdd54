"""Instances that are full of elements, whichever way they are asked for, do not hold the event
loop.
"""

import orjson
import pytest
from aiohttp import web

from sidecar.dicomweb.part_headers import HEADERS_LIMIT_BYTES
from tests.attacks.crowded import INSTANCES, crowded, instance
from tests.attacks.large import LargeArchive, row, sidecar_before
from tests.fakes.ehr import PATIENT
from tests.stalls import measured

STUDY = f"/fhir/Patient/{PATIENT}/$wado-rs/studies/1.2.840.1"
ONE = STUDY + "/series/1.2.840.1.1/instances/1.2.840.1.1.1"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=abc'
OF_ONE = orjson.dumps(
    [
        row(
            StudyInstanceUID="1.2.840.1",
            SeriesInstanceUID="1.2.840.1.1",
            SOPInstanceUID="1.2.840.1.1.1",
        )
    ]
)
LISTS = {"series": OF_ONE, "instances": OF_ONE}
REFUSED = {
    "empty items before the header",
    "contours before the header",
    "tiny elements before the header",
    "deflated items before the header",
}
OF_EACH_KIND = [
    "elements that are looked into",
    *(
        pytest.param(name, marks=pytest.mark.exhaustive)
        for name in (
            "empty items",
            "empty items before the header, just few enough",
            "deflated items",
        )
    ),
]
"""Where the way of asking makes a difference."""


def multipart(*bodies: bytes, head: bytes = b"Content-Type: application/dicom") -> bytes:
    parts = b"".join(b"\r\n--abc\r\n" + head + b"\r\n\r\n" + body for body in bodies)
    return parts[2:] + b"\r\n--abc--\r\n"


@pytest.mark.parametrize("name", INSTANCES)
async def test_a_study(name: str, request: pytest.FixtureRequest) -> None:
    body = multipart(crowded(name))
    async with sidecar_before(LargeArchive(retrieve=(body, MULTIPART))) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(STUDY)
    assert answer.status_code == (502 if name in REFUSED else 200), answer.text[:300]
    assert name in REFUSED or answer.content == body


@pytest.mark.parametrize("name", OF_EACH_KIND)
async def test_a_zip(name: str, request: pytest.FixtureRequest) -> None:
    """Its file's name is read, too."""
    archive = LargeArchive(retrieve=(multipart(crowded(name)), MULTIPART))
    async with sidecar_before(archive) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(STUDY, headers={"Accept": "application/zip"})
    assert answer.status_code == 200, answer.text[:300]
    assert answer.content.startswith(b"PK")


@pytest.mark.parametrize("name", OF_EACH_KIND)
async def test_an_instance_alone(name: str, request: pytest.FixtureRequest) -> None:
    body = crowded(name)
    async with sidecar_before(LargeArchive(LISTS, retrieve=(body, "application/dicom"))) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(ONE, headers={"Accept": "application/dicom"})
    assert (answer.status_code, answer.content == body) == (200, True), answer.text[:300]


@pytest.mark.parametrize("name", OF_EACH_KIND)
async def test_an_instance_that_is_looked_at_for_its_patient(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Nothing of it leaves: what is asked for is a drawn image."""
    archive = LargeArchive(LISTS, retrieve=(multipart(crowded(name)), MULTIPART))
    async with sidecar_before(archive) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(ONE + "/rendered", headers={"Accept": "image/jpeg"})
    assert answer.status_code in (404, 502), answer.text[:300]


def long_heads(count: int) -> bytes:
    """Parts without content, each with other and as many header lines as it may have."""
    heads = []
    for part in range(count):
        lines = [b"a%x:" % line for line in range((HEADERS_LIMIT_BYTES - 100) // 7)]
        heads.append(
            b"\r\n".join([*lines, b"X-Part: %d" % part, b"Content-Type: application/octet-stream"])
        )
    return (
        b"".join(b"\r\n--abc\r\n" + head + b"\r\n\r\n" for head in heads)[2:] + b"\r\n--abc--\r\n"
    )


PARTS = {
    "empty parts": lambda: multipart(
        *[b""] * 30_000, head=b"Content-Type: application/octet-stream"
    ),
    "long heads": lambda: long_heads(200),
}


class BulkArchive(LargeArchive):
    """Answers for an instance with one of the patient, and for bulk data with what it is given."""

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("1.2.840.1.1.1"):
            return web.Response(body=multipart(instance(b"")), headers={"Content-Type": MULTIPART})
        return await super()._answer(request)


@pytest.mark.parametrize("name", PARTS)
async def test_parts_of_bulk_data(name: str, request: pytest.FixtureRequest) -> None:
    form = 'multipart/related; type="application/octet-stream"; boundary=abc'
    async with sidecar_before(BulkArchive(LISTS, retrieve=(PARTS[name](), form))) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(
                ONE + "/bulkdata/00420011", headers={"Accept": form.rpartition(";")[0]}
            )
    assert answer.status_code == 200, answer.text[:300]


async def test_a_zip_of_many_small_instances(request: pytest.FixtureRequest) -> None:
    archive = LargeArchive(
        retrieve=(multipart(*[instance(b"")] * 8_000), MULTIPART), instances=8_000
    )
    async with sidecar_before(archive) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(STUDY, headers={"Accept": "application/zip"})
    assert answer.status_code == 200, answer.text[:300]
