"""An archive whose list changes."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.fakes.archive import answering
from tests.fakes.ehr import PATIENT

STUDY = "1.2.840.1"


@dataclass
class Archive:
    """Answers ``/studies`` with ``studies`` after ``delay`` seconds; counts the whole lists that it
    gave.
    """

    studies: list[str] = field(default_factory=lambda: [STUDY])
    delay: float = 0
    lists: int = 0
    asked_at: list[datetime] = field(default_factory=list)
    owner: str = PATIENT

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""
        return answering(self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.lists += "StudyDate" in request.query_string or "00080020" in request.query_string
        self.asked_at.append(datetime.now(UTC))
        await asyncio.sleep(self.delay)
        rows = [self._row(uid) for uid in self.studies] if "offset" not in request.query else []
        return web.json_response(rows, content_type="application/dicom+json")

    def _row(self, uid: str) -> dict[str, Any]:
        values = {"0020000D": uid, "00100020": self.owner, "00080061": "CT", "0020000E": uid + ".1"}
        return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}
