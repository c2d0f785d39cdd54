"""A FHIR server for AuditEvents that can be down, slow, picky or confused."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Event = dict[str, Any]


class FhirRepository:
    """Store events in ``events``, in order, and ids that the client chose in ``ids``.

    ``status``: of every answer, instead of taking anything; ``of_event``: status for one event;
    ``mangle``: what becomes of a batch's answer; ``most``: entries in a batch, more are a 413.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ids: list[str] = []
        self.requests: list[tuple[str, str, str | None]] = []
        self.status: int | None = None
        self._recovers_with: int | None = None
        self.retry_after: str | None = None
        self.seconds: float = 0
        self.most = 10_000
        self.of_event: Callable[[Event], int] = lambda event: 201
        self.mangle: Callable[[dict[str, Any]], Any] = lambda answer: answer

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path, request.headers.get("Authorization")))
        body = json.loads(await request.read())
        await asyncio.sleep(self.seconds)
        if self._recovers_with in self._numbers(body):
            self.status, self.of_event = None, lambda event: 201
        if self.status is not None:
            headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
            return web.Response(status=self.status, headers=headers)
        assert request.content_type == "application/fhir+json"
        if body["resourceType"] != "Bundle":
            return web.Response(status=self._take(request.method, request.path[6:], body))
        assert body["type"] == "batch"
        if len(body["entry"]) > self.most:
            return web.Response(status=413)
        statuses = [self._take(**one["request"], resource=one["resource"]) for one in body["entry"]]
        entries = [{"response": {"status": f"{status} text"}} for status in statuses]
        answer = {"resourceType": "Bundle", "type": "batch-response", "entry": entries}
        return web.json_response(self.mangle(answer), content_type="application/fhir+json")

    def recover_with(self, number: int) -> None:
        """Take events again from the request on that has event ``number``, the oldest that waits.

        At any other moment the next event may be tried, and taken, just before the oldest one.
        """
        self._recovers_with = number

    @staticmethod
    def _numbers(body: dict[str, Any]) -> set[int]:
        events = [entry["resource"] for entry in body.get("entry", [])] or [body]
        return {event["number"] for event in events if "number" in event}

    def _take(self, method: str, url: str, resource: Event) -> int:
        assert resource["resourceType"] == "AuditEvent"
        status = self.of_event(resource)
        if status not in (200, 201):
            return status
        if method == "PUT":
            assert url == f"AuditEvent/{resource['id']}"
            if resource["id"] in self.ids:
                return 200
            self.ids.append(resource["id"])
        else:
            assert (method, url) == ("POST", "AuditEvent")
        self.events.append(resource)
        return status

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        """Serve it; its FHIR base."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/fhir{path:.*}", self.handle)
        async with TestServer(app, port=port) as server:
            yield str(server.make_url("/fhir"))
