"""The way of an app with a patient's token, through our own listener: search, find, describe, retrieve, be refused.

What the token's patient has is looked at, never told: findings are counts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import requests
from dicomweb_client.api import DICOMwebClient

from sidecar.bootstrap.build import Sidecar
from sidecar.check.finding import failure, ok, skipped, warning
from sidecar.conformance.finding import Finding
from sidecar.server.listener import listen

_SECONDS = 60
_MAXIMUM_BYTES = 512 * 2**20
_ABSENT = "2.25.999999999999999999999999999999999999"


@dataclass(frozen=True, slots=True)
class Journey:
    """``url``: of a listener that is ours alone; ``token``: the patient's."""

    url: str
    token: str

    async def findings(self) -> list[Finding]:
        """Each step builds on the one before; the first that fails ends the way."""
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=aiohttp.ClientTimeout(_SECONDS),
        ) as session:
            status, bundle = await self._get(session, "/fhir/ImagingStudy?_count=1")
        if status != 200:
            return [failure("token.search", _said(status, bundle), _HINTS.get(status, _SEE_LOG))]
        total = bundle.get("total")
        found = [ok("token.search", f"{total} studies as ImagingStudy")]
        client = DICOMwebClient(f"{self.url}/wado-rs", session=self._session())
        steps = {
            "token.qido": self._find,
            "token.metadata": self._describe,
            "token.retrieve": self._retrieve,
            "token.refusal": self._refuse,
        }
        for name, step in steps.items():
            found.append(await asyncio.to_thread(_tried, name, partial(step, client)))
            if found[-1].state in ("FAIL", "skip"):
                break
        return found

    async def _get(self, session: aiohttp.ClientSession, path: str) -> tuple[int, dict[str, Any]]:
        async with session.get(self.url + path) as response:
            return response.status, await response.json(content_type=None)

    def _session(self) -> requests.Session:
        session = _Bounded()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self.token}"
        return session

    def _find(self, client: DICOMwebClient) -> Finding:
        studies = client.search_for_studies(limit=1)
        if not studies:
            return skipped("token.qido", _NONE_SHOWN)
        self._study(client)
        return ok("token.qido", "QIDO-RS of /wado-rs answers dicomweb-client")

    @staticmethod
    def _study(client: DICOMwebClient) -> str:
        return str(client.search_for_studies(limit=1)[0]["0020000D"]["Value"][0])

    def _instance(self, client: DICOMwebClient) -> tuple[str, str, str]:
        study = self._study(client)
        (row, *_) = client.search_for_instances(study, limit=1)
        return study, str(row["0020000E"]["Value"][0]), str(row["00080018"]["Value"][0])

    def _describe(self, client: DICOMwebClient) -> Finding:
        rows = client.retrieve_instance_metadata(*self._instance(client))
        return ok("token.metadata", f"{len(rows)} attributes of one instance")

    def _retrieve(self, client: DICOMwebClient) -> Finding:
        dataset = client.retrieve_instance(
            *self._instance(client), media_types=(("application/dicom", "*"),)
        )
        return ok(
            "token.retrieve", f"one instance, {len(dataset)} attributes, verified as it passed"
        )

    def _refuse(self, client: DICOMwebClient) -> Finding:
        try:
            client.retrieve_study_metadata(_ABSENT)
        except requests.HTTPError as error:
            if _status(error) == 404:
                return ok("token.refusal", "a study that is not this patient's is a 404")
            return _http("token.refusal", error)
        return failure(
            "token.refusal", "a made-up study was answered", "Do not serve; report this."
        )


class _Bounded(requests.Session):
    """Each request ends after ``_SECONDS`` of silence, is not repeated, and brings ``_MAXIMUM_BYTES`` at most."""

    def send(self, request: requests.PreparedRequest, **keywords: Any) -> requests.Response:
        """As in ``Session``."""
        response = super().send(request, **{**keywords, "timeout": _SECONDS, "stream": True})
        body, began = bytearray(), time.monotonic()
        for chunk in response.iter_content(2**16):
            body += chunk
            if len(body) > _MAXIMUM_BYTES or time.monotonic() - began > _SECONDS:
                response.close()
                raise requests.exceptions.ChunkedEncodingError("too long")
        response._content = bytes(body)  # noqa: SLF001 - there is no public way to say what was read
        return response


def _tried(name: str, step: Callable[[], Finding]) -> Finding:
    """What a step finds; whatever an archive answers, it is a finding."""
    try:
        return step()
    except requests.HTTPError as error:
        return _http(name, error)
    except requests.RequestException:
        return failure(
            name,
            "the transfer was broken off",
            "The archive's answer broke, is endless, unreadable, or not this patient's: see the log.",
        )
    except Exception as error:
        return failure(
            name, f"dicomweb-client cannot use the answer ({type(error).__name__})", _SEE_LOG
        )


_NONE_SHOWN = "no study is shown: none at the archive, or access.rules, access.clients or access.external leave it out"
_SEE_LOG = "See the log on standard error (--verbose)."
_HINTS = {
    403: "Has the token a patient/ scope with ImagingStudy, and a patient in context (docs/authorization.md)? If the "
    "record was merged, the patient must log in again (docs/ehr.md).",
}


def _said(status: int, body: dict[str, Any]) -> str:
    try:
        return f"{status}: {body['issue'][0]['diagnostics']}"
    except (KeyError, IndexError, TypeError):
        return str(status)


def _status(error: requests.HTTPError) -> int:
    return error.response.status_code if error.response is not None else 0


def _http(name: str, error: requests.HTTPError) -> Finding:
    try:
        body = error.response.json() if error.response is not None else {}
    except ValueError:
        body = {}
    return failure(name, _said(_status(error), body), _HINTS.get(_status(error), _SEE_LOG))


def without_studies(found: list[Finding], *, rules: bool) -> list[Finding]:
    """The same, with a warning when the search works and finds nothing: mostly the mapping is wrong then.

    ``rules``: there are some that may hide studies.
    """
    if found and found[0].text.startswith("0 "):
        return [
            *found,
            warning(
                "token.studies",
                _NONE_SHOWN,
                "If there should be one: " + ("do access.rules hide it? " if rules else "") + "is "
                "patients.mapping right? Compare Patient.id or its identifiers with the PatientID at "
                "the archive.",
            ),
        ]
    return found


@asynccontextmanager
async def journey(sidecar: Sidecar, token: str) -> AsyncIterator[Journey]:
    """Serve on a free loopback port for the time of the journey."""
    async with listen(sidecar.public, "127.0.0.1", 0, name="check") as port:
        yield Journey(f"http://127.0.0.1:{port}", token)
