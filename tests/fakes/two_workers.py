"""Two workers between a fake EHR and a fake archive, as processes."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from aiohttp import web

from tests.background import Background
from tests.capability_keys import token_bound
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fhir.rows import row
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

STUDIES = [f"1.2.{number}" for number in range(1, 9)]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TTL_SECONDS = 3
ENOUGH = 20
"""Requests on connections of their own, which come to both workers."""


class SlowArchive(RowArchive):
    """Answers a query whose target contains ``slow`` after ``seconds``."""

    slow, seconds = "", 0.0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = await super().answer(request)
        if self.slow in request.raw_path:
            await asyncio.sleep(self.seconds)
        return response


class World:
    """Two workers between an EHR and an archive.

    ``cache``: more of ``tokens.cache``. ``limits``: more of ``limits``.
    """

    def __init__(
        self,
        background: Background,
        folder: Path,
        *,
        cache: Mapping[str, str] | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        rows = (
            row(PatientID=PATIENT, StudyInstanceUID=one, SeriesInstanceUID=f"{one}.1")
            for one in STUDIES
        )
        self.ehr, self.archive = ScriptedEhr(), SlowArchive(*rows)
        document = {
            "server": {"workers": 2},
            "ehr": {"fhir_url": f"http://127.0.0.1:{background.serve(self.ehr.app())}/fhir"},
            "tokens": {
                "client": {"method": "none"},
                "cache": {"ttl_seconds": TTL_SECONDS, **(cache or {})},
            },
            "pacs": {"url": f"http://127.0.0.1:{background.serve(self.archive.app())}/rs"},
            "capabilities": token_bound(folder),
            "fhir": {
                "detail": "study",
                "catalog": {"store": "sqlite", "file": str(folder / "catalog")},
            },
            "limits": {"search_cache_seconds": 3_600, **(limits or {})},
        }
        self.sidecar = SidecarProcess(folder, document)

    def search(self, **parameters: str) -> dict[str, Any]:
        return self.bundle(requests.get(self.searched, parameters, headers=HEADERS, timeout=60))

    @property
    def searched(self) -> str:
        return f"{self.sidecar.fhir}/ImagingStudy"

    @staticmethod
    def bundle(answer: requests.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def totals(self) -> Counter[int]:
        """How many studies searches find."""
        return Counter(self.search()["total"] for _ in range(ENOUGH))

    def logged(self, message: str) -> None:
        wait_until(message, lambda: self.sidecar.log, lambda log: f'"{message}"' in log)

    @contextlib.contextmanager
    def probed(self) -> Iterator[Counter[object]]:
        """Ask /readyz all the time. Yields how often which status was seen."""
        seen: Counter[object] = Counter()
        over = threading.Event()

        def probe() -> None:
            while not over.is_set():
                try:
                    seen[requests.get(self.sidecar.admin + "/readyz", timeout=60).status_code] += 1
                except requests.RequestException as error:
                    seen[repr(error)] += 1

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            wait_until("a probe", lambda: seen)
            yield seen
        finally:
            over.set()
            thread.join()
