"""The admin listener: ``/metrics``, ``/healthz`` (alive), ``/readyz`` (able to serve).

Any worker of the host may answer. ``/metrics`` has the values of all. ``/healthz`` is about the
process that answers. ``/readyz`` is about the EHR and the archive, and so the same in each.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web

from sidecar.common.errors import Problem
from sidecar.common.invalidation import NO_PATIENT_DATA
from sidecar.common.loading_cache import LoadingCache
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Readiness:
    """Asks each dependency at most once per ``keep_seconds``: probes come from several sides."""

    def __init__(
        self,
        probes: Mapping[str, Callable[[], Awaitable[object]]],
        *,
        keep_seconds: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = dict(probes)
        self._problems: LoadingCache[None, dict[str, str]] = LoadingCache(
            NO_PATIENT_DATA, max_entries=1, ttl_seconds=keep_seconds, clock=clock
        )
        self.draining = False
        """Whether the process ends. A replaced worker accepts nothing, and is not asked."""

    def forget(self) -> None:
        """Drop the cached state."""
        self._problems.discard(None)

    async def problems(self) -> dict[str, str]:
        """Return what keeps us from serving: dependency -> reason; empty when ready."""
        if self.draining:
            return {"server": "draining"}
        return await self._problems.get(None, self._probe)

    async def _probe(self) -> dict[str, str]:
        reasons = await asyncio.gather(
            *(self._ask(name, probe) for name, probe in self._probes.items())
        )
        return {
            name: reason
            for name, reason in zip(self._probes, reasons, strict=True)
            if reason is not None
        }

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
    """Return the admin application. It belongs on an address that only operators reach.

    ``invalidate`` forgets what is remembered of the archive and of patients, in all workers.
    """

    async def expose(request: web.Request) -> web.Response:
        """Return the metrics of all workers, for Prometheus."""
        accept = ", ".join(request.headers.getall(hdrs.ACCEPT, ()))
        # In a thread: with several workers there are their files to read.
        body, content_type = await asyncio.to_thread(metrics.negotiate, accept)
        return web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})

    async def alive(request: web.Request) -> web.Response:
        """Return 200: the process that answers lives."""
        return web.json_response({"status": "alive"})

    async def ready(request: web.Request) -> web.Response:
        """Return 200 where the EHR and the PACS answer now, else 503 with the reasons."""
        problems = await readiness.problems()
        if problems:
            return web.json_response({"status": "not ready", "problems": problems}, status=503)
        return web.json_response({"status": "ready"})

    async def forget(request: web.Request) -> web.Response:
        """Forget what is remembered of the archive, of patients and of the policy."""
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
