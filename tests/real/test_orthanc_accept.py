"""Accept headers of real clients in front of a real Orthanc with a compressed multi-frame image
(SIA-40, 41).

Orthanc 1.10 decodes all frames of an image for one, unless the stored bytes are asked for;
and it reads one media range.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.orthanc import Orthanc, require_orthanc
from tests.tables.orthanc_accept import OBJECTS, OCTETS, STORED, TABLE

pytestmark = pytest.mark.orthanc

FRAMES = 20


class Slide:
    """An Orthanc with one image of 20 frames in JPEG, and a record of the bytes that it is sent."""

    def __init__(self, orthanc: Orthanc, directory: Path) -> None:
        name = get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False)
        assert isinstance(name, str)
        image = pydicom.dcmread(name)
        (self.frame,) = generate_frames(image.PixelData, number_of_frames=1)
        image.PatientID, image.NumberOfFrames = PATIENT, FRAMES
        image.PixelData = encapsulate([self.frame] * FRAMES)
        image.save_as(directory / "slide.dcm")
        self.file = (directory / "slide.dcm").read_bytes()
        orthanc.load(self.file)
        self.orthanc = orthanc
        self.sent = b""
        study, series, instance = (
            image.StudyInstanceUID,
            image.SeriesInstanceUID,
            image.SOPInstanceUID,
        )
        self.path = f"/wado-rs/studies/{study}/series/{series}/instances/{instance}"

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yields the DICOMweb root, as ``sidecar_between`` wants it; what is sent there goes to
        Orthanc.
        """
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web"
        finally:
            server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = int(self.orthanc.url.rpartition(":")[2])
        from_orthanc, to_orthanc = await asyncio.open_connection("127.0.0.1", port)

        async def back() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await from_orthanc.read(2**16):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        answers = asyncio.create_task(back())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                self.sent += data
                to_orthanc.write(data)
        to_orthanc.close()
        await answers

    def accepted(self, suffix: str) -> str:
        """The Accept header of the last request for a resource that ends so."""
        heads = self.sent.decode().split("\r\n\r\n")
        (found,) = [head for head in heads if head.split("\r\n")[0].endswith(f"{suffix} HTTP/1.1")][
            -1:
        ]
        return next(
            line.partition(": ")[2]
            for line in found.split("\r\n")
            if line.lower().startswith("accept: ")
        )


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    require_orthanc()
    with Orthanc() as orthanc:
        yield Slide(orthanc, tmp_path_factory.mktemp("slide"))


@pytest.mark.parametrize("what", TABLE)
async def test_what_reaches_orthanc_and_what_comes_back(slide: Slide, what: str) -> None:
    resource, accept, asked, content_type = TABLE[what]
    async with (
        sidecar_between(ScriptedEhr(), slide, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        client.get(url + slide.path + resource, headers={"Accept": accept}) as response,
    ):
        body = await response.read()
        assert response.status == 200, body
        assert response.headers["Content-Type"].startswith(content_type)
    assert (
        slide.accepted(resource.replace("bulkdata", "bulk") or slide.path.rpartition("/")[2])
        == asked
    )
    if "transfer-syntax=1.2.840.10008.1.2.4.50" in content_type:
        assert slide.frame in body
    alone = {"the instance alone": slide.file, "a frame alone, as stored": slide.frame}
    assert body == alone.get(what, body)
    if what == "a value alone":
        assert body.strip() == PATIENT.encode()


# Of the image's 20 frames, as Orthanc answers: 400, the same as for a media type that it does not
# have.
FRAME_LISTS: dict[str, tuple[str, str, int]] = {
    "the last": ("20", STORED, 200),
    "one behind the last": ("21", STORED, 404),
    "far behind": ("9999999", STORED, 404),
    "one of two": ("20,21", STORED, 404),
    "behind the last, decompressed": ("21", OCTETS, 404),
    "behind the last, drawn": ("21/rendered", "image/jpeg", 404),
    "the last, in a form that Orthanc does not have": (
        "20",
        'multipart/related; type="video/mp4"',
        406,
    ),
}


@pytest.mark.parametrize("what", FRAME_LISTS)
async def test_a_frame_that_is_not_there_is_404(slide: Slide, what: str) -> None:
    frames, accept, status = FRAME_LISTS[what]
    async with (
        sidecar_between(ScriptedEhr(), slide, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        client.get(f"{url}{slide.path}/frames/{frames}", headers={"Accept": accept}) as response,
    ):
        assert response.status == status


LENGTHS = {
    "the instance": ("", OBJECTS),
    "the instance alone": ("", "application/dicom"),
    "a frame": ("/frames/1", STORED),
    "a frame alone": ("/frames/1", "application/octet-stream"),
    "drawn": ("/rendered", "image/jpeg"),
    "a value alone": ("/bulkdata/00100020", "application/octet-stream"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("what", LENGTHS)
async def test_the_length_is_known(slide: Slide, what: str, method: str) -> None:
    """Also where an address in a part's head was rewritten."""
    resource, accept = LENGTHS[what]
    async with (
        sidecar_between(ScriptedEhr(), slide, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        client.request(method, url + slide.path + resource, headers={"Accept": accept}) as response,
    ):
        body = await response.read()
        assert response.status == 200
        assert method == "HEAD" or int(response.headers["Content-Length"]) == len(body)
        assert int(response.headers["Content-Length"]) > 0


async def test_a_value_in_several_parts_cannot_be_had_alone(slide: Slide) -> None:
    """Orthanc gives compressed pixel data a part for each fragment."""
    async with (
        sidecar_between(ScriptedEhr(), slide, pacs={"dialect": "orthanc"}) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        client.get(
            f"{url}{slide.path}/bulkdata/7FE00010", headers={"Accept": "application/octet-stream"}
        ) as response,
    ):
        assert response.status == 406
        assert (
            "multipart/related"
            in (await response.json(content_type=None))["issue"][0]["diagnostics"]
        )
