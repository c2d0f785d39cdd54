"""dcm4chee-arc 5.x over a folder of DICOM files, as an application: what a real one answered, or
what its source says.

Only the outside is dcm4chee's; index, matching and pixels underneath are the embedded archive's.
Which answers were measured and which are only documented: ``test_emulation.py``, docs/dcm4chee.md.
"""

import asyncio
import hmac
import pickle
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from sidecar.common.errors import Problem
from sidecar.demo.archive.accept import media_ranges
from sidecar.demo.archive.index import Index, read_folder
from sidecar.demo.archive.instance import StoredInstance
from sidecar.dicomweb.media_types import accepts_json
from sidecar.dicomweb.paths import Kind, Query, Retrieval, parse
from tests.dcm4chee.behaviour import ROOT, Asked, Behaviour
from tests.dcm4chee.query import Asked as Parameters
from tests.dcm4chee.query import Refused, answer, matching_rows, parse_query
from tests.dcm4chee.resteasy import BrokenFile, send
from tests.dcm4chee.retrieve import STORAGE, metadata, output

DICOM_JSON = "application/dicom+json"
LAST_MODIFIED = 1_709_287_200.0
"""Of everything, in seconds since 1970."""
_ENTITY_TAG = '"1709287200"'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_dcm4chee(folder: Path, behaviour: Behaviour | None = None) -> web.Application:
    """Return an archive of the DICOM files in and below ``folder``, its DICOMweb root at
    ``behaviour.ROOT``.

    Blocks while it reads the folder. Raises ``NotADirectoryError``.
    """
    behaviour = behaviour or Behaviour()
    shown = Index(
        instance
        for instance in _instances(folder)
        if instance.part.instance not in behaviour.rejected
    )
    archive = Dcm4chee(shown, behaviour)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await archive.guarded(request, handler)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        if behaviour.is_measured:
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Accept-Ranges"] = "none"

    app = web.Application(middlewares=[guarded])
    app.on_response_prepare.append(add_headers)
    app.router.add_get(ROOT + "/{path:.*}", archive.answer)
    return app


def _instances(folder: Path) -> list[StoredInstance]:
    """Return the instances of a folder, made anew for each archive, so that none shares them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    states = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    found: list[StoredInstance] = pickle.loads(_pickled(folder, states))
    return found


@lru_cache(maxsize=8)
def _pickled(folder: Path, states: tuple[tuple[Path, int, int], ...]) -> bytes:
    """Read a folder once for each state of its files, which is two thirds of a test's CPU time."""
    studies = read_folder(folder).studies
    return pickle.dumps([instance for study in studies for instance in study.instances()])


class Dcm4chee:
    """The handlers."""

    def __init__(self, index: Index, behaviour: Behaviour) -> None:
        self._index = index
        self._behaviour = behaviour

    async def guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keycloak's part, and the errors: JSON that calls itself text, or text, or nothing."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._behaviour.asked.append(Asked(request.raw_path, headers))
        token = self._behaviour.bearer_token
        if token is not None and not hmac.compare_digest(
            headers.get("authorization", ""), f"Bearer {token}"
        ):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="dcm4che"'})
        try:
            return await handler(request)
        except Refused as refused:
            return self._error(refused.status, refused.message)
        except Problem as problem:
            return self._error(problem.status, problem.diagnostics)
        except BrokenFile as broken:
            return self._error(500, str(broken))

    def _error(self, status: int, message: str) -> web.Response:
        written = orjson.dumps({"errorMessage": message}).decode()
        if not self._behaviour.is_measured:
            return web.Response(status=status, text=written, content_type="text/plain")
        if status == 406:
            return web.Response(status=status)
        body = (message if status == 400 else written).encode()
        return web.Response(
            status=status, body=body, headers={"Content-Type": "text/plain;charset=UTF-8"}
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any resource below the root."""
        path = request.match_info["path"].split("/")
        root = f"{request.scheme}://{request.host}{ROOT}"
        if path[-1] in ("count", "size"):
            return self._count(request, path, root)
        resource = parse(path)
        if isinstance(resource, Query):
            return self._search(request, resource, root)
        return await self._retrieve(request, resource, root)

    def _count(self, request: web.Request, path: Sequence[str], root: str) -> web.Response:
        query = parse(path[:-1])
        if not isinstance(query, Query):
            raise Refused(404, "Not Found")
        types = frozenset({"application/json"})
        if self._behaviour.is_measured and not accepts_json(request.headers.get("Accept"), types):
            raise Refused(406, "Not Acceptable")
        rows = matching_rows(self._index, query, self._parsed(request), root)
        return web.json_response({path[-1]: len(rows)})

    def _search(self, request: web.Request, query: Query, root: str) -> web.Response:
        if not accepts_json(request.headers.get("Accept")):
            raise Refused(406, "Not Acceptable")
        asked = self._parsed(request)
        headers = {"Cache-Control": "no-cache"}
        measured = self._behaviour.is_measured
        if query.study is not None and self._behaviour.entity_tags and not measured:
            headers = _validators()
            if request.headers.get("If-None-Match") == _ENTITY_TAG:
                return web.Response(status=304, headers=headers)
        page = answer(self._index, query, asked, self._behaviour, root)
        if not page.rows:
            return web.Response(status=204, headers=None if measured else headers)
        if page.remaining:
            more = f"There are {page.remaining} additional results that can be requested"
            headers["Warning"] = f'299 {request.host} "{more}"'
        response = _dicom_json(page.rows, headers)
        if measured:
            response.enable_chunked_encoding()
        return response

    def _parsed(self, request: web.Request) -> Parameters:
        return parse_query(_raw_query(request), self._behaviour.mode)

    async def _retrieve(
        self, request: web.Request, retrieval: Retrieval, root: str
    ) -> web.StreamResponse:
        behaviour = self._behaviour
        if retrieval.part.study in behaviour.redirects:
            return web.Response(
                status=303, headers={"Location": behaviour.redirects[retrieval.part.study]}
            )
        matches = self._index.find(retrieval.part)
        # Before it looks whether the files are still there.
        if matches and request.headers.get("If-None-Match") == _ENTITY_TAG:
            return web.Response(status=304, headers=_validators())
        # Measured: that a file is gone is seen when it is to be read.
        gone_uids = set() if behaviour.is_measured else behaviour.not_accessible
        instances = [one for one in matches if one.part.instance not in gone_uids]
        if not instances:
            raise (
                Refused(410, "No longer accessible.")
                if matches
                else Refused(404, "No matches found.")
            )
        # The files come from tape only once it is known that there are any.
        await asyncio.sleep(behaviour.near_line.get(retrieval.part.study, 0))
        gone = len(matches) - len(instances)
        if retrieval.kind is Kind.METADATA:
            return await self._metadata(request, instances, gone, root)
        return await self._parts(request, retrieval, instances, gone, root)

    async def _metadata(
        self, request: web.Request, instances: Sequence[StoredInstance], gone: int, root: str
    ) -> web.StreamResponse:
        if not accepts_json(request.headers.get("Accept")):
            raise Refused(406, "Not Acceptable")
        rows = await asyncio.to_thread(metadata, instances, self._behaviour, root)
        status, headers = _wholeness(request, gone, 0)
        unread = [one.part.instance in self._behaviour.not_accessible for one in instances]
        if any(unread):  # Not measured: as with a multipart.
            if len(rows) == 1:
                raise BrokenFile(f"java.nio.file.NoSuchFileException: {STORAGE}/2026/11/28/x")
            begun = orjson.dumps(rows[: unread.index(True)])[:-1]
            response = web.Response(body=begun, content_type=DICOM_JSON, headers=headers)
        else:
            response = _dicom_json(rows, headers, status)
        response.enable_chunked_encoding()
        return response

    async def _parts(
        self,
        request: web.Request,
        retrieval: Retrieval,
        instances: Sequence[StoredInstance],
        gone: int,
        root: str,
    ) -> web.StreamResponse:
        frames, measured = retrieval.frames, self._behaviour.is_measured
        if frames:
            there = tuple(number for number in frames if number <= instances[0].number_of_frames)
            if not there:
                raise Refused(404, "No such frame.")
            if not self._behaviour.is_measured:
                retrieval = Retrieval(retrieval.kind, retrieval.part, there, retrieval.steps)
        ranges = media_ranges(", ".join(request.headers.getall("Accept", [])) or None)
        found = output(retrieval, instances, ranges, dict(request.query), root, self._behaviour)
        status, headers = _wholeness(request, gone, found.not_acceptable)
        if len(retrieval.frames) < len(frames):
            status = 206  # Without a Warning: its own is for instances.
        if found.alone:
            body = await asyncio.to_thread(next(found.parts).body)
            assert isinstance(body, bytes)
            if not measured:
                headers["Accept-Ranges"] = "bytes"
            response = web.Response(
                body=body, status=status, content_type=found.media_type, headers=headers
            )
            if measured:
                response.enable_chunked_encoding()
            return response
        return await send(
            request,
            found.parts,
            found.media_type,
            status=status,
            headers=headers,
            measured=measured,
        )


def _wholeness(request: web.Request, gone: int, not_acceptable: int) -> tuple[int, dict[str, str]]:
    """Status and headers: 206 with a Warning when instances are left out of a body that is
    otherwise well-formed.
    """
    headers = _validators()
    missing = [f"{gone} objects no longer accessible"] if gone else []
    missing += [f"{not_acceptable} objects not acceptable"] if not_acceptable else []
    if missing:
        headers["Warning"] = f'299 {request.host} "{" and ".join(missing)}."'
    return (206 if missing else 200), headers


def _validators() -> dict[str, str]:
    return {"ETag": _ENTITY_TAG, "Last-Modified": formatdate(LAST_MODIFIED, usegmt=True)}


def _dicom_json(
    rows: list[dict[str, Any]], headers: dict[str, str], status: int = 200
) -> web.Response:
    return web.Response(
        body=orjson.dumps(rows), status=status, content_type=DICOM_JSON, headers=headers
    )


def _raw_query(request: web.Request) -> str:
    return request.raw_path.partition("?")[2]
