"""Our own JSON is compressed for clients that ask: lists, Bundles and metadata; never images, nor
what is short.
"""

import asyncio
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from sidecar.web.pieces import LEAST_COMPRESSED_BYTES, PIECE_BYTES
from tests.attacks.raw import answers, send
from tests.attacks.raw import request as http
from tests.attacks.row import OWN, ROOT
from tests.capability_keys import token_bound
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import GOOD, answer
from tests.fakes.site import sidecar_between
from tests.fhir.rows import row
from tests.stalls import measured

ROW = row(
    PatientID=PATIENT, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=INSTANCE
)


def unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        found += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return found


def metadata(instances: int) -> bytes:
    return json.dumps(
        [ROW | {"00080018": {"vr": "UI", "Value": [f"{INSTANCE}.{n}"]}} for n in range(instances)]
    ).encode()


class Archive(ScriptedPacs):
    """Its list of studies has so many bytes of description."""

    description = LEAST_COMPRESSED_BYTES

    def _rows(self, target: str, writer: asyncio.StreamWriter) -> None:
        text = {"00081030": {"vr": "LO", "Value": ["x" * self.description]}}
        rows: list[dict[str, Any]] = (
            []
            if "offset=" in target
            else [
                ROW
                | text
                | {name: {"vr": "IS", "Value": [300]} for name in ("00201208", "00201209")}
            ]
        )
        if "/instances?" in target and "SOPInstanceUID" not in target:
            rows = [
                row | {"00080018": {"vr": "UI", "Value": [f"{INSTANCE}.{n}"]}}
                for row in rows
                for n in range(300)
            ]
        body = json.dumps(rows).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )


LONG = metadata(300)
SHORT = metadata(1)
JSON_HEAD = b"Content-Type: application/dicom+json\r\nContent-Length: %d\r\n"

# target, Accept-Encoding, bytes of description -> whether it is compressed.
TABLE: dict[str, tuple[str, str | None, int, bool]] = {
    "a list": (f"{ROOT}/studies", "gzip", LEAST_COMPRESSED_BYTES, True),
    "a list, among others": (
        f"{ROOT}/studies",
        "br;q=1.0, GZIP;q=0.8, *;q=0.1",
        LEAST_COMPRESSED_BYTES,
        True,
    ),
    "a list, anything": (f"{ROOT}/studies", "*", LEAST_COMPRESSED_BYTES, True),
    "a list in pieces": (f"{OWN}/instances", "gzip, deflate", PIECE_BYTES // 100, True),
    "a short list": (f"{ROOT}/studies", "gzip", 10, False),
    "not asked for": (f"{ROOT}/studies", None, LEAST_COMPRESSED_BYTES, False),
    "another coding": (f"{ROOT}/studies", "br, deflate", LEAST_COMPRESSED_BYTES, False),
    "refused": (f"{ROOT}/studies", "gzip;q=0, *", LEAST_COMPRESSED_BYTES, False),
    "refused with a point": (f"{ROOT}/studies", "gzip;q=0.000", LEAST_COMPRESSED_BYTES, False),
    "a name that begins like it": (f"{ROOT}/studies", "gzipped", LEAST_COMPRESSED_BYTES, False),
    "a Bundle": ("/fhir/ImagingStudy", "gzip", LEAST_COMPRESSED_BYTES, True),
    "metadata": (f"{OWN}/metadata", "gzip", 0, True),
    "metadata, not asked for": (f"{OWN}/metadata", None, 0, False),
    "short metadata": (f"{OWN}/series/{SERIES}/instances/{INSTANCE}/metadata", "gzip", 0, False),
    "images": (OWN, "gzip", 0, False),
}


@pytest.mark.parametrize("what", TABLE)
async def test_what_is_compressed(what: str, request: pytest.FixtureRequest) -> None:
    target, accepted, description, compressed = TABLE[what]

    async def retrieve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = (
            LONG
            if target == f"{OWN}/metadata"
            else SHORT.replace(f"{INSTANCE}.0".encode(), INSTANCE.encode())
        )
        await answer(JSON_HEAD % len(body), body)(reader, writer)

    pacs = Archive(GOOD["content-length"] if target == OWN else retrieve)
    pacs.description = description
    if target == OWN:
        pacs = ScriptedPacs(GOOD["content-length"])  # type: ignore[assignment]
    bodies = []
    settings = {"verify_instances": False}
    async with sidecar_between(ScriptedEhr(), pacs, pacs=settings) as (url, _):
        with measured(request):  # Compressed in a thread: others have their turn.
            for lines in ([], [] if accepted is None else [f"Accept-Encoding: {accepted}"]):
                (found,) = answers(await send(int(url.rpartition(":")[2]), http(target, *lines)))
                assert found.status == 200, found.body
                assert "Accept-Encoding" in (found.header("vary") or "")
                body = (
                    unchunked(found.body)
                    if found.header("transfer-encoding") == "chunked"
                    else found.body
                )
                assert (found.header("content-encoding") == "gzip") is (compressed and bool(lines))
                if found.header("content-encoding") is not None:
                    assert len(body) < 50_000
                    assert (found.header("transfer-encoding") is None) is (
                        what not in ("a list in pieces", "metadata")
                    )
                    body = zlib.decompress(body, wbits=31)
                bodies.append(body)
    first, second = bodies
    if "ImagingStudy" in target:
        assert json.loads(first)["entry"] == json.loads(second)["entry"]
    else:
        assert first == second


async def test_addresses_that_are_permissions_are_not_compressed(tmp_path: Path) -> None:
    """They would stand beside what the client wrote, in ``link.self`` (BREACH)."""
    pacs = Archive(GOOD["content-length"])
    async with sidecar_between(ScriptedEhr(), pacs, capabilities=token_bound(tmp_path)) as (url, _):
        data = http("/fhir/ImagingStudy", "Accept-Encoding: gzip")
        (found,) = answers(await send(int(url.rpartition(":")[2]), data))
    assert found.status == 200
    assert b"/capability/" in found.body
    assert found.header("content-encoding") is None
    assert len(found.body) > LEAST_COMPRESSED_BYTES


async def test_an_old_client_gets_it_plain() -> None:
    """HTTP/1.0 has no chunks."""
    async with sidecar_between(ScriptedEhr(), Archive(GOOD["chunked"])) as (url, _):
        data = http(f"{ROOT}/studies", "Accept-Encoding: gzip", version="HTTP/1.0")
        (found,) = answers(await send(int(url.rpartition(":")[2]), data))
    assert (found.status, found.header("content-encoding")) == (200, None)
