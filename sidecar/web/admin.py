"""Serve operators: ``/metrics``, ``/healthz`` (alive), ``/readyz`` (able to serve)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web

from sidecar.common.errors import Problem
from sidecar.common.single_flight import SingleFlight
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Readiness:
    """Cache the state of each dependency for ``keep_seconds``, since probes come often."""

    def __init__(
        self, probes: Mapping[str, Callable[[], Awaitable[object]]], *, keep_seconds: float = 5
    ) -> None:
        self._probes = dict(probes)
        self._keep_seconds = keep_seconds
        self._flight: SingleFlight[None, dict[str, str]] = SingleFlight()
        self._known: dict[str, str] = {}
        self._known_until = float("-inf")
        self.draining = False

    def forget(self) -> None:
        """Drop the cached state."""
        self._known_until = float("-inf")

    async def problems(self) -> dict[str, str]:
        """Return what keeps us from serving: dependency -> reason; empty when ready."""
        if self.draining:
            return {"server": "draining"}
        if time.monotonic() < self._known_until:
            return self._known
        return await self._flight.run(None, self._probe)

    async def _probe(self) -> dict[str, str]:
        reasons = await asyncio.gather(
            *(self._ask(name, probe) for name, probe in self._probes.items())
        )
        problems = {name: why for name, why in zip(self._probes, reasons, strict=True) if why}
        self._known, self._known_until = problems, time.monotonic() + self._keep_seconds
        return problems

    @staticmethod
    async def _ask(name: str, probe: Callable[[], Awaitable[object]]) -> str | None:
        try:
            await probe()
        except Problem as problem:
            return problem.for_operators()
        except Exception:
            log.exception("a readiness probe failed", extra={"probe": name})
            return "internal_error"
        return None


def create_admin(
    metrics: Metrics, readiness: Readiness, invalidate: Callable[[], None] = lambda: None
) -> web.Application:
    """Return the admin application, for an address that only operators reach.

    ``invalidate`` drops what is cached of the archive and of patients.
    """

    async def expose(request: web.Request) -> web.Response:
        body, content_type = metrics.negotiate(", ".join(request.headers.getall(hdrs.ACCEPT, ())))
        return web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})

    async def alive(request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(request: web.Request) -> web.Response:
        problems = await readiness.problems()
        if problems:
            return web.json_response({"status": "not ready", "problems": problems}, status=503)
        return web.json_response({"status": "ready"})

    async def forget(request: web.Request) -> web.Response:
        invalidate()
        return web.Response(status=204)

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "smart-imaging-sidecar"

    app = web.Application()
    app.on_response_prepare.append(sign)
    app.router.add_get("/metrics", expose)
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_post("/admin/invalidate", forget)
    return app
