"""The last requests of the sidecar, from its own log: which answer, and why."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from sidecar.demo.explain.requirements import REQUIREMENTS, explain

OWN_ROUTES = "demo-"
"""Beginning of the names of the routes that are not in it."""
MAXIMUM_REQUESTS = 1_000
_LOGGER = "sidecar.request"
_FIELDS = ("request_id", "route", "method", "status", "seconds")


class Decisions:
    """Remembers the last ``MAXIMUM_REQUESTS`` lines of the log by their request's id."""

    def __init__(self) -> None:
        self._requests: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._added = asyncio.Event()

    @contextlib.contextmanager
    def follow(self) -> Iterator[None]:
        """Listen to the log of requests. What it writes elsewhere stays the same."""
        logger = logging.getLogger(_LOGGER)
        level, least = logger.level, logger.getEffectiveLevel()

        def remember(record: logging.LogRecord) -> bool:
            self.add(record)
            return record.levelno >= least

        logger.setLevel(min(least, logging.INFO))
        logger.addFilter(remember)
        try:
            yield
        finally:
            logger.removeFilter(remember)
            logger.setLevel(level)

    def add(self, record: logging.LogRecord) -> None:
        """Remember the line of a request. Others, and those of the demo's own routes, are not."""
        fields = vars(record)
        if "status" not in fields or str(fields["route"]).startswith(OWN_ROUTES):
            return
        request = {name: fields[name] for name in _FIELDS} | {"reason": fields.get("reason")}
        self._requests[request["request_id"]] = request
        while len(self._requests) > MAXIMUM_REQUESTS:
            self._requests.popitem(last=False)
        self._added.set()
        self._added = asyncio.Event()

    async def find(self, request_id: str, *, seconds: float) -> dict[str, Any] | None:
        """Return the request and its explanation, ``None`` if it does not end in that time.

        A request is in the log when its answer has left, a moment after an app has its head.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while request_id not in self._requests:
                    await self._added.wait()
        request = self._requests.get(request_id)
        return None if request is None else request | _explained(**request)


def _explained(route: str, status: int, reason: str | None, **_: object) -> dict[str, Any]:
    explanation = explain(route, status, reason)
    return {
        "outcome": _outcome(status, reason),
        "why": explanation.why,
        "requirements": [
            {"id": number, "text": REQUIREMENTS[number]} for number in explanation.requirements
        ],
    }


def _outcome(status: int, reason: str | None) -> str:
    if status < 400:
        return "permitted"
    if status < 500:
        return "refused"
    return "waiting" if reason == "pacs_warming" else "failed"
