"""A sidecar whose EHR and archive answer much: they run in a thread, so that the sidecar alone is
on the test's loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import requests
from aiohttp import web

from sidecar.bootstrap.build import build
from sidecar.dicom.json_model import tag
from sidecar.server.listener import listen
from tests.background import Background
from tests.fakes.archive import archive_app
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import site_settings

Row = dict[str, Any]


def row(**attributes: Any) -> Row:
    """A row of the patient; attributes by keyword, a value or a list of them."""
    found = {"PatientID": PATIENT, **attributes}
    values = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    return {tag(name): {"vr": "LO", "Value": value} for name, value in values.items()}


def study(number: int, **attributes: Any) -> Row:
    """A study's row as an archive tells it."""
    usual = {
        "StudyInstanceUID": f"1.2.840.{number}",
        "StudyDate": f"20{number % 24:02}0101",
        "StudyTime": "101010",
        "AccessionNumber": f"A{number}",
        "StudyDescription": f"CT of number {number}",
        "ModalitiesInStudy": ["CT", "SR"],
        "NumberOfStudyRelatedSeries": 3,
        "NumberOfStudyRelatedInstances": 300,
        "ReferringPhysicianName": {"Alphabetic": "Doe^Jane"},
        "InstitutionName": "General",
        "StudyID": str(number),
    }
    return row(**usual | attributes)


def series(of_study: int, number: int, **attributes: Any) -> Row:
    """A row of one of its series."""
    usual = {
        "StudyInstanceUID": f"1.2.840.{of_study}",
        "SeriesInstanceUID": f"1.2.840.{of_study}.{number}",
        "Modality": "CT" if number else "SR",
        "SeriesNumber": number,
        "SeriesDescription": "thin slices",
        "BodyPartExamined": "CHEST",
        "NumberOfSeriesRelatedInstances": 100,
    }
    return row(**usual | attributes)


@dataclass
class LargeArchive:
    """Answers each query with the ``bodies`` of its level, as they are; a query for one study with
    its row.

    ``retrieve``: the body of any retrieval, and its Content-Type.
    """

    bodies: dict[str, bytes] = field(default_factory=dict)
    retrieve: tuple[bytes, str] = (b"", "application/dicom+json")
    instances: int = 1
    """How many every study has."""

    def app(self) -> web.Application:
        return archive_app(self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        level = request.path.rpartition("/")[2]
        if level not in ("studies", "series", "instances"):
            return web.Response(body=self.retrieve[0], headers={"Content-Type": self.retrieve[1]})
        if request.query.get("offset", "0") != "0":
            body = b"[]"
        elif "StudyInstanceUID" in request.query and "PatientID" not in request.query:
            uids = request.query["StudyInstanceUID"].split(",")
            counted = {"NumberOfStudyRelatedInstances": self.instances}
            body = orjson.dumps([row(StudyInstanceUID=uid, **counted) for uid in uids])
        else:
            body = self.bodies.get(level, b"[]")
        return web.Response(body=body, content_type="application/dicom+json")


@dataclass(frozen=True)
class Asker:
    """Sends requests from a thread of its own."""

    url: str

    async def get(self, path: str, **more: Any) -> requests.Response:
        """The answer to ``GET path`` with the patient's token; ``method``, ``headers``, ``data`` as
        in ``requests``."""
        method = more.pop("method", "GET")
        headers = {"Authorization": f"Bearer {TOKEN}", **more.pop("headers", {})}
        return await asyncio.to_thread(
            requests.request, method, self.url + path, headers=headers, timeout=300, **more
        )


@contextlib.asynccontextmanager
async def sidecar_before(
    archive: LargeArchive,
    ehr: ScriptedEhr | None = None,
    **changes: dict[str, Any],
) -> AsyncIterator[Asker]:
    """Run a sidecar on the test's loop, its peers in a thread. ``changes`` override settings by
    section."""
    with Background() as background:
        ehr_port = background.serve((ehr or ScriptedEhr()).app())
        pacs_url = f"http://127.0.0.1:{background.serve(archive.app())}/rs"
        patient: dict[str, dict[str, Any]] = {
            "limits": {
                "ehr_timeout_seconds": 120,
                "pacs_timeout_seconds": 300,
                "defer_after_seconds": None,
            },
            "log": {"level": "ERROR"},
        }
        async with (
            build(site_settings(ehr_port, pacs_url, patient, changes)) as sidecar,
            listen(sidecar.public, "127.0.0.1", 0) as port,
        ):
            yield Asker(f"http://127.0.0.1:{port}")
