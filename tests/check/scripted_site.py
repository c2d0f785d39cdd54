"""EHR and archive that a test scripts, and the findings of ``check`` about them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from sidecar.check.run import check
from sidecar.conformance.finding import Finding
from sidecar.server.listener import listen
from sidecar.settings.document import Settings
from tests.fakes.archive import archive_app
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.site import site_settings


class Pacs:
    """Answers ``/studies`` with ``rows`` (paged when ``pages``) and ``/info`` with ``info``."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = [study("1.2.1"), study("1.2.2")]
        self.pages = True
        self.status = 200
        self.info: dict[str, Any] | None = None
        self.of_series: dict[str, Any] = {"00201209": {"vr": "IS", "Value": [2]}}
        self.instances: list[dict[str, Any]] | None = None
        self.writes_character_sets = True
        self.countable = True

    def app(self) -> web.Application:
        return archive_app(self._answer, "/dicom-web")

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.match_info["path"].split("/")
        if path == ["studies"]:
            return await self._studies(request)
        if path == ["info"]:
            return await self._info(request)
        answers = {"series": self._series, "instances": self._instances}
        if path[0] != "studies" or path[-1] not in answers:
            return web.Response(status=404)
        return await answers[path[-1]](request)

    async def _studies(self, request: web.Request) -> web.Response:
        if self.status != 200:
            return web.Response(status=self.status)
        if not self.writes_character_sets and "SpecificCharacterSet" in request.query.get(
            "includefield", ""
        ):
            return web.Response(status=400)
        if not self.countable and "NumberOfStudyRelatedInstances" in request.query.get(
            "includefield", ""
        ):
            return web.Response(status=400)
        uid = request.query.get("StudyInstanceUID")
        rows = [row for row in self.rows if uid in (None, row["0020000D"]["Value"][0])]
        if self.pages:
            begin = int(request.query.get("offset", "0"))
            rows = rows[begin : begin + int(request.query.get("limit", "1000"))]
        return web.json_response(rows, content_type="application/dicom+json")

    async def _series(self, request: web.Request) -> web.Response:
        row = {
            "0020000D": {"vr": "UI", "Value": [request.path.split("/")[3]]},
            "0020000E": {"vr": "UI", "Value": ["1.9"]},
            "00080060": {"vr": "CS", "Value": ["CT"]},
        } | self.of_series
        rows = [] if "offset" in request.query else [row]
        return web.json_response(rows, content_type="application/dicom+json")

    async def _instances(self, request: web.Request) -> web.Response:
        if self.instances is None:
            return web.Response(status=404)
        return web.json_response([] if "offset" in request.query else self.instances)

    async def _info(self, request: web.Request) -> web.Response:
        return web.Response(status=404) if self.info is None else web.json_response(self.info)


def study(uid: str, patient: str | None = "p1", issuer: str | None = None) -> dict[str, Any]:
    """A QIDO-RS row."""
    row: dict[str, Any] = {
        "0020000D": {"vr": "UI", "Value": [uid]},
        "00201208": {"vr": "IS", "Value": [2]},
    }
    if patient is not None:
        row["00100020"] = {"vr": "LO", "Value": [patient]}
    if issuer is not None:
        row["00100021"] = {"vr": "LO", "Value": [issuer]}
    return row


@contextlib.asynccontextmanager
async def served(
    ehr: ScriptedEhr, pacs: Pacs, /, **changes: dict[str, Any]
) -> AsyncIterator[Settings]:
    """Settings for these two upstreams."""
    async with (
        listen(ehr.app(), "127.0.0.1", 0) as ehr_port,
        listen(pacs.app(), "127.0.0.1", 0) as pacs_port,
    ):
        server = {"server": {"public_url": "https://imaging.example.org"}}
        yield site_settings(ehr_port, f"http://127.0.0.1:{pacs_port}/dicom-web", server, changes)


async def found(ehr: ScriptedEhr, pacs: Pacs, /, **changes: dict[str, Any]) -> dict[str, Finding]:
    """The findings by name."""
    async with served(ehr, pacs, **changes) as settings:
        return {one.name: one for one in await check(settings, None)}
