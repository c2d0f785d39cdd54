"""A FHIR server with its authorization server, whose answers a test scripts."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

PATIENT = "p1"
TOKEN = "a-recognizable-token"
SCOPE = "patient/ImagingStudy.rs"


@dataclass
class ScriptedEhr:
    """Answers every introspection with ``answer`` (JSON) and ``status`` after ``delay`` seconds;
    counts them.

    ``issuer``: what its smart-configuration names.
    """

    answer: Any = field(
        default_factory=lambda: {
            "active": True, "scope": SCOPE, "client_id": "app", "exp": 9_999_999_999, "patient": PATIENT,
        }
    )  # fmt: skip
    status: int = 200
    delay: float = 0
    introspections: int = 0
    configured: bool = True
    issuer: str | None = None

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_get("/fhir/.well-known/smart-configuration", self._configuration)
        app.router.add_post("/introspect", self._introspect)
        return app

    async def _configuration(self, request: web.Request) -> web.Response:
        if not self.configured:
            return web.Response(status=500)
        endpoint = f"{request.url.origin()}/introspect"
        return web.json_response({"introspection_endpoint": endpoint, "issuer": self.issuer})

    async def _introspect(self, request: web.Request) -> web.Response:
        self.introspections += 1
        await asyncio.sleep(self.delay)
        if isinstance(self.answer, str):
            return web.Response(text=self.answer, status=self.status)
        return web.json_response(self.answer, status=self.status)


class HasApp(Protocol):
    """Anything that can stand for an EHR."""

    def app(self) -> web.Application:
        """The application; its FHIR base is /fhir."""
