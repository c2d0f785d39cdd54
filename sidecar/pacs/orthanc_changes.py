"""Follow Orthanc's ``/changes`` (its REST API, not DICOMweb) to invalidate what is cached.

Orthanc numbers the changes of its patients, studies, series and instances. Every few seconds the
changes after the last known number are read, their patients looked up, and those patients' lists
invalidated. A deletion has no number: ``/statistics`` then counts fewer instances than came.
Whenever the patients are unclear (a deletion, many changes at once, a new Orthanc), everything is
invalidated.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from sidecar.common.fetch import FetchFailed, fetch
from sidecar.dicom.character_sets import is_known_text

log = logging.getLogger(__name__)

PAGE = 200
"""Limit of the changes in one round; more of them invalidate everything."""
LOOKUPS = 32
"""Limit of the patients looked up in one round; more of them invalidate everything."""
LIMIT_BYTES = 2**20
"""Limit in bytes of one answer."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", re.ASCII)
_PATH = {
    "Patient": "/patients/{}",
    "Study": "/studies/{}/patient",
    "Series": "/series/{}/patient",
    "Instance": "/instances/{}/patient",
}
# No search shows these: a pause after the last image, an attachment.
_IRRELEVANT = frozenset(
    {
        "StablePatient",
        "StableStudy",
        "StableSeries",
        "UpdatedAttachment",
        "NewChildInstance",
        "CompletedSeries",
    }
)


class _Unclear(Exception):
    """The patients of the changes are unknown."""


class OrthancChanges:
    """Poll the Orthanc at ``root`` (no trailing slash) every ``poll_seconds``.

    ``forget(patient_ids)`` invalidates their lists (``None``: all lists). ``observe(kind, status,
    seconds)``: as for ``PacsClient``, with the kind ``changes``.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        root: str,
        forget: Callable[[frozenset[str] | None], None],
        *,
        poll_seconds: float,
        timeout_seconds: float,
        authorization: str | None = None,
        observe: Callable[[str, str, float], None] = lambda kind, status, seconds: None,
    ) -> None:
        self._session = session
        self._root = root
        self._forget = forget
        self._poll_seconds = poll_seconds
        self._timeout_seconds = timeout_seconds
        self._headers = {"Accept": "application/json"}
        if authorization is not None:
            self._headers["Authorization"] = authorization
        self._observe = observe
        self._last: int | None = None
        self._instances = 0  # As the changes so far count them.
        self._counted = 0  # As Orthanc counted them in the last round.
        self._failing = False

    async def follow(self) -> None:
        """Poll until cancelled. Log a failure once, and invalidate everything after it."""
        while True:
            try:
                await self.poll()
            except Exception as failure:
                if not self._failing:
                    reason, detail = type(failure).__name__, None
                    if isinstance(failure, FetchFailed):
                        reason, detail = failure.reason, failure.detail
                    log.error(
                        "Orthanc's /changes cannot be read: lists are as old as "
                        "limits.search_cache_seconds",
                        extra={"reason": reason, "detail": detail},
                    )
                self._failing = True
                self._last = None  # Begin anew: changes in between are not known.
            else:
                if self._failing:
                    log.info("Orthanc's /changes can be read again")
                self._failing = False
            await asyncio.sleep(self._poll_seconds)

    async def poll(self) -> None:
        """Do one round. Raises ``FetchFailed`` for an unexpected answer, and skips nothing."""
        if self._last is None:
            await self._begin()
            return
        answer = await self._get(f"/changes?since={self._last}&limit={PAGE}")
        last, changes = _number(answer, "Last"), answer.get("OrthancChanges")
        if not isinstance(changes, list):
            raise FetchFailed("wrong_shape")
        try:
            if answer.get("Done") is not True or last < self._last:
                raise _Unclear
            patients = await self._patients(changes)
            came = sum(change.get("ChangeType") == "NewInstance" for change in changes)
            if self._counted > self._instances + came:
                # Some instances came without a change: another client deletes /changes.
                raise _Unclear
            instances = await self._count()
            if instances < self._instances + came:
                # Some were deleted. Later instances are among the next changes.
                raise _Unclear
        except _Unclear:
            await self._begin()
            return
        self._last, self._instances, self._counted = last, self._instances + came, instances
        if patients:
            self._forget(patients)

    async def _begin(self) -> None:
        """Follow from the present number on, and invalidate everything cached before."""
        last = _number(await self._get("/changes?last"), "Last")
        self._instances = self._counted = await self._count()
        self._last = last
        self._forget(None)

    async def _count(self) -> int:
        return _number(await self._get("/statistics"), "CountInstances")

    async def _patients(self, changes: list[Any]) -> frozenset[str]:
        """Return the PatientIDs of the changed resources. Raises ``_Unclear``."""
        asked: dict[str, None] = {}
        before = self._last
        for change in changes:
            if not isinstance(change, dict) or not isinstance(change.get("ChangeType"), str):
                raise _Unclear
            if before is not None and change.get("Seq") != before + 1:
                # A change is missing: its resource has been deleted, and its changes with it.
                raise _Unclear
            before = change["Seq"]
            path, identifier = _PATH.get(str(change.get("ResourceType"))), str(change.get("ID"))
            if path is None or not _ID.fullmatch(identifier):
                raise _Unclear
            if change.get("ChangeType") not in _IRRELEVANT:
                asked[path.format(identifier)] = None
        if len(asked) > LOOKUPS:
            raise _Unclear
        return frozenset([await self._patient(path) for path in asked])

    async def _patient(self, path: str) -> str:
        try:
            tags = (await self._get(path)).get("MainDicomTags")
        except FetchFailed as failure:
            if failure.reason == "unexpected_status":  # Deleted since.
                raise _Unclear from None
            raise
        patient_id = tags.get("PatientID") if isinstance(tags, dict) else None
        if not isinstance(patient_id, str) or not is_known_text(patient_id):
            raise _Unclear
        return patient_id.strip(" ")

    async def _get(self, path: str) -> dict[str, Any]:
        started, status = time.perf_counter(), "failed"
        try:
            answer = await fetch(
                self._session,
                "GET",
                self._root + path,
                limit_bytes=LIMIT_BYTES,
                timeout_seconds=self._timeout_seconds,
                headers=self._headers,
            )
            status = str(answer.status)
        except FetchFailed as failure:
            status = failure.reason
            raise
        finally:
            self._observe("changes", status, time.perf_counter() - started)
        if answer.status != 200:
            raise FetchFailed("unexpected_status", f"status {answer.status}")
        return answer.strict_json_object()


def _number(answer: dict[str, Any], name: str) -> int:
    number = answer.get(name)
    if type(number) is not int or not 0 <= number < 2**63:  # No bool.
        raise FetchFailed("wrong_shape")
    return number
