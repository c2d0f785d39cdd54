"""A FHIR server with its authorization server, whose answers a test scripts."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

PATIENT = "p1"
TOKEN = "a-recognizable-token"
SCOPE = "patient/ImagingStudy.rs"


@dataclass
class ScriptedEhr:
    """Answers introspections, and reads of Patients.

    - ``answer``: what every introspection is answered with, or a function of the token that returns
      it. Text is sent as it is, anything else as JSON; with ``status``, after ``delay`` seconds.
    - ``issuer``: in the smart-configuration, which is sent with ``configuration_status``.
    - ``configuration``: takes the place of the smart-configuration as a whole.
    - ``patients``: Patients, or their bytes, by their ids. To any other id the answer is 404. They
      are searched by ``identifier``, with ``search_status``; ``searches`` has the values.
    - ``introspections``: how many there were; ``requests``: the header fields of each, names in
      lower case.
    """

    answer: Any = field(
        default_factory=lambda: {
            "active": True,
            "scope": SCOPE,
            "client_id": "app",
            "exp": 9_999_999_999,
            "patient": PATIENT,
        }
    )
    status: int = 200
    delay: float = 0
    introspections: int = 0
    configuration_status: int = 200
    configuration: dict[str, Any] | None = None
    issuer: str | None = None
    patients: dict[str, Any] = field(default_factory=dict)
    search_status: int = 200
    searches: list[str] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> web.Application:
        """Return the application; its FHIR base is /fhir."""
        app = web.Application()
        app.router.add_get("/fhir/.well-known/smart-configuration", self._configuration)
        app.router.add_post("/introspect", self._introspect)
        app.router.add_post("/fhir/introspect", self._introspect)
        app.router.add_get("/fhir/Patient", self._search)
        app.router.add_get("/fhir/Patient/{id}", self._patient)
        return app

    async def _configuration(self, request: web.Request) -> web.Response:
        if self.configuration_status != 200:
            return web.Response(status=self.configuration_status)
        if self.configuration is not None:
            return web.json_response(self.configuration)
        endpoint = f"{request.url.origin()}/introspect"
        return web.json_response({"introspection_endpoint": endpoint, "issuer": self.issuer})

    async def _introspect(self, request: web.Request) -> web.Response:
        self.introspections += 1
        self.requests.append({name.lower(): value for name, value in request.headers.items()})
        await asyncio.sleep(self.delay)
        answer = self.answer
        if callable(answer):
            answer = answer(str((await request.post())["token"]))
        if isinstance(answer, str):
            return web.Response(text=answer, status=self.status)
        return web.json_response(answer, status=self.status)

    async def _search(self, request: web.Request) -> web.Response:
        self.searches.append(request.query["identifier"])
        wanted = request.query["identifier"].split(",")
        entries = [
            {"resource": found}
            for found in self.patients.values()
            if any(f"{one['system']}|{one['value']}" in wanted for one in found["identifier"])
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        return web.json_response(bundle, status=self.search_status)

    async def _patient(self, request: web.Request) -> web.Response:
        try:
            found = self.patients[request.match_info["id"]]
        except KeyError:
            return web.Response(status=404)
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        return web.Response(body=body, content_type="application/fhir+json")


def patient(id_: str, *identifiers: tuple[str, str]) -> dict[str, Any]:
    """Return a Patient with these identifiers, each a system and a value."""
    listed = [{"system": system, "value": value} for system, value in identifiers]
    return {"resourceType": "Patient", "id": id_, "identifier": listed}


def active(patient_id: str, **changes: Any) -> dict[str, Any]:
    """Return what is answered to an introspection of a good token of this patient."""
    usual: dict[str, Any] = ScriptedEhr().answer
    return usual | {"patient": patient_id, **changes}


def to_the_token(answer: dict[str, Any], unknown: object = None) -> Callable[[str], object]:
    """Return an ``answer`` of ``ScriptedEhr`` that is for ``TOKEN``; others get ``unknown``."""
    return lambda token: answer if token == TOKEN else unknown or {"active": False}


class HasApp(Protocol):
    """Anything that can stand for an EHR."""

    def app(self) -> web.Application:
        """The application; its FHIR base is /fhir."""
