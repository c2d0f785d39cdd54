"""Clients and archives for limits."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidecar.authorization.limits import RequestLimits
from tests.fakes.ehr import PATIENT, ScriptedEhr, active
from tests.fakes.retrievals import MULTIPART, PART
from tests.fakes.site import HEADERS


@dataclass
class Slow:
    """A PACS whose answers go on until ``done``."""

    done: asyncio.Event
    begun: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun += 1
        writer.write(b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Connection: close\r\n\r\n" + PART)
        await writer.drain()
        await self.done.wait()
        writer.write(b"--abc--\r\n")


def apps() -> ScriptedEhr:
    """Return an EHR whose tokens say in themselves whose they are: ``patient.app``."""

    def answer(token: str) -> dict[str, Any]:
        patient, _, app = token.partition(".")
        return active(patient, client_id=app)

    return ScriptedEhr(answer=answer)


def bearer(app: str, patient: str = PATIENT) -> dict[str, str]:
    return {**HEADERS, "Authorization": f"Bearer {patient}.{app}"}


def remembering(made: list[RequestLimits]) -> Callable[..., RequestLimits]:
    """``RequestLimits`` whose instances are added to ``made``."""

    def make(**named: int) -> RequestLimits:
        made.append(RequestLimits(**named))
        return made[-1]

    return make
