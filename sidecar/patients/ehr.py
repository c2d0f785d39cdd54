"""Mapping ``ehr``: read ``Patient/<id>`` at the EHR and pick its identifiers by system (SIA-17)."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from cachetools import TTLCache

from sidecar.access.identity import PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.fetch import Answer, FetchFailed
from sidecar.common.invalidation import Invalidation
from sidecar.common.single_flight import SingleFlight
from sidecar.patients.reading import Credentials, read_resource

log = logging.getLogger(__name__)


class EhrMapping:
    """Reads the Patient and maps ``identifier[].system`` by ``issuers``: system -> IssuerOfPatientID or ``None``.

    Answers are kept for ``cache_ttl_seconds``, at most ``max_entries``. A patient whom the EHR does not know has no
    identifiers. ``observe(outcome)`` takes ``found``, ``unknown``, ``failed``.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        fhir_url: str,
        issuers: Mapping[str, str | None],
        credentials: Credentials,
        *,
        timeout_seconds: float,
        cache_ttl_seconds: float = 300,
        max_entries: int = 50_000,
        invalidation: Invalidation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._fhir_url = fhir_url
        self._issuers = dict(issuers)
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds
        self._invalidation = invalidation or Invalidation()
        self._flight: SingleFlight[str, frozenset[PatientIdentifier]] = SingleFlight(self._invalidation)
        self._known: TTLCache[str, frozenset[PatientIdentifier]] = self._invalidation.cache_of_others(
            TTLCache(max_entries, ttl=cache_ttl_seconds, timer=clock)
        )

    async def identifiers(self, patient: str) -> frozenset[PatientIdentifier]:
        """Return every identifier of the patient (FHIR id) that the PACS may know, possibly none.

        Raises ``Unavailable`` (503) when the EHR does not answer usefully, ``BadGateway`` (502) when it refuses us.
        """
        known = self._known.get(patient)
        if known is not None:
            return known
        return await self._flight.run(patient, lambda: self._look_up(patient))

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """What an identifier of a FHIR search is at the PACS; without ``system`` one of any that is configured."""
        return frozenset(
            PatientIdentifier(value, issuer) for known, issuer in self._issuers.items() if system in (None, known)
        )

    async def close(self) -> None:
        """End what is under way."""
        await self._flight.close()

    async def _look_up(self, patient: str) -> frozenset[PatientIdentifier]:
        generation = self._invalidation.generation
        try:
            answer = await read_resource(
                self._session, f"{self._fhir_url}/Patient/{patient}", self._credentials,
                timeout_seconds=self._timeout_seconds,
            )  # fmt: skip
            found = self._identifiers(answer, patient)
        except FetchFailed as failure:
            log.error("the EHR's Patient cannot be read", extra={"reason": failure.reason, "detail": failure.detail})
            raise Unavailable(
                "The hospital's patient record cannot be read now; try again.", reason="patient_" + failure.reason
            ).because(failure.detail) from None
        if generation == self._invalidation.generation:
            self._known[patient] = found
        return found

    def _identifiers(self, answer: Answer, patient: str) -> frozenset[PatientIdentifier]:
        if answer.status in (401, 403):
            log.error(
                "the EHR refused our own credentials for reading Patient: check patients.client",
                extra={"reason": "patient_refused", "upstream_status": answer.status},
            )
            raise BadGateway(
                "This server may not read the hospital's patient record. Its operators have been told.",
                reason="patient_refused",
            )
        if answer.status in (404, 410):
            return frozenset()
        if answer.status != 200:
            raise FetchFailed("unexpected_status", f"status {answer.status}")
        return self.pick(answer.strict_json_object(), patient)

    def pick(self, resource: dict[str, Any], patient: str) -> frozenset[PatientIdentifier]:
        """Return the identifiers of a Patient resource. Raises ``FetchFailed`` when it is not that Patient."""
        if resource.get("resourceType") != "Patient" or resource.get("id") != patient:
            raise FetchFailed("wrong_resource")
        listed = resource.get("identifier", [])
        if not isinstance(listed, list):
            raise FetchFailed("wrong_shape")
        found = set()
        for entry in listed:
            if not isinstance(entry, dict) or entry.get("use") == "old":
                # An old number may have been given to somebody else since.
                continue
            system, value = entry.get("system"), entry.get("value")
            if not isinstance(value, str) or not isinstance(system, str) or system not in self._issuers:
                continue
            identifier = PatientIdentifier(value, self._issuers[system])
            if identifier.is_searchable():
                found.add(identifier)
            else:
                log.warning("an identifier of the EHR cannot be searched for exactly and is left out")
        return frozenset(found)
