"""Find the patients of each backend client, from ``access.clients`` (SIA-13).

The patients stand in the configuration, in a file that is read again when it changes, or in FHIR
Groups of the EHR. A source that cannot be read adds no patients.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidecar.access.facts import BackendClient, Conditions, is_fhir_id
from sidecar.common.errors import Unavailable
from sidecar.common.fetch import FetchedResponse, FetchFailed
from sidecar.common.invalidation import NEGATIVE_SECONDS, Invalidation
from sidecar.common.loading_cache import ForgetOn, LoadingCache
from sidecar.ehr.fhir_client import FhirClient
from sidecar.ehr.oauth_error import status_and_error
from sidecar.patients.validity import is_current

log = logging.getLogger(__name__)

GROUP_BYTES = 64 * 1_048_576
"""Limit in bytes of a Group: some hundred thousand members."""
FILE_BYTES = 64 * 1_048_576


@dataclass(frozen=True, slots=True)
class ClientEntry:
    """An entry of ``access.clients``. ``groups``: FHIR ids of Groups."""

    patients: frozenset[str] = frozenset()
    patients_file: Path | None = None
    groups: tuple[str, ...] = ()
    studies: Conditions = field(default_factory=dict)
    rules: bool = True


class PatientsFile:
    """A file with a FHIR id on each line; empty lines and lines that begin with # are skipped."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version: tuple[int, int, int] | None = None
        self._patients: frozenset[str] = frozenset()

    def patients(self) -> frozenset[str]:
        """Return the ids in the file: none if it cannot be read or a line is no FHIR id."""
        try:
            stat = self._file.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if version != self._version:
                self._patients = self._parse(stat.st_size)
                self._version = version
        except (OSError, ValueError) as error:
            self._patients, self._version = frozenset(), None
            detail = error.strerror if isinstance(error, OSError) else str(error)
            log.error(
                "a client's patients_file cannot be used: it may see nobody",
                extra={"detail": detail},
            )
        return self._patients

    def _parse(self, size: int) -> frozenset[str]:
        if size > FILE_BYTES:
            raise ValueError("it is too large")
        lines = [line.strip() for line in self._file.read_text("utf-8").splitlines()]
        patients = frozenset(line for line in lines if line and not line.startswith("#"))
        if not all(map(is_fhir_id, patients)):
            raise ValueError("a line is no FHIR id")
        return patients


class Groups:
    """Cache the members of FHIR Groups at the EHR (https://hl7.org/fhir/R4/group.html).

    A Group is cached for ``cache_ttl_seconds``, an empty Group for ``NEGATIVE_SECONDS`` at most.
    """

    def __init__(
        self,
        client: FhirClient,
        *,
        cache_ttl_seconds: float = 300,
        invalidation: Invalidation,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._client = client
        self._members: LoadingCache[str, frozenset[str]] = LoadingCache(
            invalidation,
            ForgetOn.INVALIDATE,
            max_entries=1_000,
            ttl_seconds=cache_ttl_seconds,
            negative_seconds=min(cache_ttl_seconds, NEGATIVE_SECONDS),
            is_negative=lambda group, members: not members,
            clock=clock,
        )

    async def members(self, group: str) -> frozenset[str]:
        """Return the FHIR ids of a Group's active patients.

        Raises ``Unavailable`` (503) when the Group cannot be read.
        """
        return await self._members.get(group, lambda: self._look_up(group))

    async def close(self) -> None:
        """Cancel the queries that are under way."""
        await self._members.close()

    async def _look_up(self, group: str) -> frozenset[str]:
        try:
            answer = await self._client.read(f"Group/{group}", limit_bytes=GROUP_BYTES)
            if answer.status in (404, 410):
                log.error("a client's Group does not exist at the EHR: it gives nobody")
                return frozenset()
            if answer.status != 200:
                raise FetchFailed("unexpected_status", status_and_error(answer))
            return await answer.read(lambda response: self._patients(response, group))
        except FetchFailed as failure:
            log.error(
                "a client's Group cannot be read",
                extra={"reason": failure.reason, "detail": failure.detail},
            )
            raise Unavailable(
                "The list of this client's patients cannot be read now; try again.",
                reason="group_" + failure.reason,
            ).because(failure.detail) from None

    def _patients(self, response: FetchedResponse, group: str) -> frozenset[str]:
        resource = response.strict_json_object()
        if resource.get("resourceType") != "Group" or resource.get("id") != group:
            raise FetchFailed("wrong_resource")
        members, now = resource.get("member", []), self._now()
        # A Group that is not actual is a description, and has no members (R4 grp-1).
        is_in_use = all(resource.get(name, True) is True for name in ("active", "actual"))
        if not isinstance(members, list) or not is_in_use:
            return frozenset()
        return frozenset(
            patient for member in members if (patient := self._patient(member, now)) is not None
        )

    def _patient(self, member: Any, now: datetime) -> str | None:
        """Return the FHIR id of a current member who is a patient of this EHR, else ``None``."""
        if not isinstance(member, dict) or member.get("inactive", False) is not False:
            return None
        if not is_current(member.get("period"), now):
            return None
        entity = member.get("entity")
        reference = entity.get("reference") if isinstance(entity, dict) else None
        if not isinstance(reference, str):
            return None
        resource_type, _, patient = reference.removeprefix(self._client.url + "/").partition("/")
        return patient if resource_type == "Patient" and is_fhir_id(patient) else None


class BackendClients:
    """The entries of ``access.clients``, by client_id."""

    def __init__(self, entries: Mapping[str, ClientEntry], groups: Groups) -> None:
        self._entries = dict(entries)
        self._files = {
            client_id: PatientsFile(entry.patients_file)
            for client_id, entry in entries.items()
            if entry.patients_file is not None
        }
        self._groups = groups

    async def client(self, client_id: str | None) -> BackendClient | None:
        """Return what a client may see, ``None`` for an unknown client. Raises ``Unavailable``."""
        entry = self._entries.get(client_id or "")
        if entry is None or client_id is None:
            return None
        patients = entry.patients
        if client_id in self._files:
            patients |= self._files[client_id].patients()
        for group in entry.groups:
            patients |= await self._groups.members(group)
        return BackendClient(patients, entry.studies, entry.rules)
