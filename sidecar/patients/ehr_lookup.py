"""Mapping ``ehr``: read ``Patient/<id>`` at the EHR and pick its identifiers by system (SIA-17)."""

import contextlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from sidecar.access.decision import decide_owners
from sidecar.access.facts import KnownAs, PatientIdentifier, is_fhir_id
from sidecar.common.errors import BadGateway, Forbidden, Unavailable
from sidecar.common.fetch import FetchedResponse, FetchFailed
from sidecar.common.invalidation import FRESH_SECONDS, NEGATIVE_SECONDS, Invalidation
from sidecar.common.loading_cache import ForgetOn, LoadingCache
from sidecar.ehr.fhir_client import FhirClient
from sidecar.ehr.oauth_error import status_and_error
from sidecar.patients.patient_resource import (
    NotInUse,
    PatientMerged,
    identifiers_of,
    is_another,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_FOUND = 20
"""Patients of one search for an owner: more than one in use are nobody's."""
_LASTING_FAILURES = frozenset({"wrong_shape", "wrong_resource"})
"""Reasons of failures that another request does not mend."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PATIENT = re.compile(r"/Patient/([^/]+)(?:/_history/[^/]+)?/?")


@dataclass(frozen=True, slots=True)
class _PatientRecord:
    """The EHR's record of a patient. ``refusal``: why nobody may use it."""

    identifiers: frozenset[PatientIdentifier]
    refusal: NotInUse | None = None


class EhrMapping:
    """Read the Patient and map the system of each identifier to an IssuerOfPatientID.

    ``client`` reads at the EHR. ``issuers``: system -> IssuerOfPatientID or ``None``.
    At most ``max_entries`` records are cached for ``cache_ttl_seconds``, those without identifiers
    for ``NEGATIVE_SECONDS`` at most. A patient whom the EHR does not know has no identifiers.
    """

    def __init__(
        self,
        client: FhirClient,
        issuers: Mapping[str, str | None],
        *,
        cache_ttl_seconds: float = 300,
        max_entries: int = 50_000,
        invalidation: Invalidation,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self.client = client
        self._issuers = dict(issuers)
        # The patients that were read anew less than FRESH_SECONDS ago.
        self._refreshed: LoadingCache[str, bool] = LoadingCache(
            invalidation,
            ForgetOn.INVALIDATE,
            max_entries=max_entries,
            ttl_seconds=FRESH_SECONDS,
            clock=clock,
        )
        self._records: LoadingCache[str, _PatientRecord] = LoadingCache(
            invalidation,
            ForgetOn.INVALIDATE,
            max_entries=max_entries,
            ttl_seconds=cache_ttl_seconds,
            negative_seconds=min(cache_ttl_seconds, NEGATIVE_SECONDS),
            is_negative=lambda patient, record: not record.identifiers,
            clock=clock,
        )

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return every identifier of the patient (FHIR id) that the PACS may know, possibly none.

        ``fresh``: ask the EHR unless that was done less than ``FRESH_SECONDS`` ago.
        Raises ``Unavailable`` (503) when the EHR does not answer usefully, ``BadGateway`` (502)
        when it refuses us or returns no Patient of this id, ``Forbidden`` (403) when the patient's
        record was merged into another one or is not active.
        """
        # ``max_age_seconds`` would discard the cached record. When a reload fails, other requests
        # still need it.
        if fresh and self._refreshed.peek(patient) is None:
            self._refreshed.put(patient, True, self._refreshed.stamp(patient))
            record = await self._records.reload(patient, lambda: self._look_up(patient))
        else:
            record = await self._records.get(patient, lambda: self._look_up(patient))
        if record.refusal is not None:
            raise Forbidden(record.refusal.text, reason=record.refusal.reason)
        return record.identifiers

    async def known_as(self, owners: KnownAs) -> frozenset[str]:
        """Return the FHIR ids of the patients in use whom the PACS knows by all of ``owners``.

        The EHR is searched for one number, which such a patient has; of what it finds each Patient
        is read as ``identifiers`` does. For nobody it is searched for a number that nobody has:
        time tells nothing (SIA-45). Raises what ``identifiers`` raises but ``Forbidden``.
        """
        numbers = (owner.patient_id for owner in owners if owner.is_searchable())
        number = _escaped(min(numbers, default=secrets.token_hex(8)))
        values = ",".join(f"{_escaped(system)}|{number}" for system in self._issuers)
        query = urlencode({"identifier": values, "_count": MOST_FOUND})
        return await self._ask(f"Patient?{query}", lambda response: self._owners(response, owners))

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Return what an identifier in a FHIR search is at the PACS. ``None``: of any system."""
        return frozenset(
            PatientIdentifier(value, issuer)
            for mapped_system, issuer in self._issuers.items()
            if system in (None, mapped_system)
        )

    async def close(self) -> None:
        """Cancel the queries that are under way."""
        await self._records.close()

    async def _look_up(self, patient: str) -> _PatientRecord:
        try:
            identifiers = await self._ask(
                f"Patient/{patient}", lambda response: self._identifiers(response, patient)
            )
            return _PatientRecord(identifiers)
        except NotInUse as refusal:
            log.warning(refusal.log, extra={"reason": refusal.reason})
            return _PatientRecord(frozenset(), refusal.with_traceback(None))

    async def _ask(self, reference: str, reader: Callable[[FetchedResponse], T]) -> T:
        try:
            answer = await self.client.read(reference)
            return await answer.read(reader)
        except FetchFailed as failure:
            log.error(
                "the EHR's Patient cannot be read",
                extra={"reason": failure.reason, "detail": failure.detail},
            )
            if failure.reason in _LASTING_FAILURES:
                raise BadGateway(
                    "The hospital's patient record cannot be used here. "
                    "The operators of this server have been told.",
                    reason="patient_" + failure.reason,
                ) from None
            raise Unavailable(
                "The hospital's patient record cannot be read now; try again.",
                reason="patient_" + failure.reason,
            ).because(failure.detail) from None

    def _owners(self, response: FetchedResponse, owners: KnownAs) -> frozenset[str]:
        """Return the Patients of a searchset whose are all of ``owners``, of one page."""
        _raise_if_refused(response)
        if response.status != 200:
            raise FetchFailed("unexpected_status", f"status {response.status}")
        bundle = response.strict_json_object()
        entries, links = bundle.get("entry", []), bundle.get("link", [])
        if bundle.get("resourceType") != "Bundle":
            raise FetchFailed("wrong_resource")
        if not (isinstance(entries, list) and isinstance(links, list)):
            raise FetchFailed("wrong_resource")
        if any(not isinstance(link, dict) or link.get("relation") == "next" for link in links):
            return frozenset()  # There may be one more on the next page.
        try:
            return self._found(entries, owners)
        except FetchFailed as failure:
            # An error would show that there is a study, of somebody with such a record (SIA-45).
            log.error(
                "the EHR finds a Patient that cannot be read: a study is taken for nobody's",
                extra={"reason": failure.reason},
            )
            return frozenset()

    def _found(self, entries: list[Any], owners: KnownAs) -> frozenset[str]:
        found = set()
        for entry in entries:
            resource = entry.get("resource") if isinstance(entry, dict) else None
            patient = resource.get("id") if isinstance(resource, dict) else None
            if not isinstance(resource, dict) or resource.get("resourceType") != "Patient":
                continue  # An OperationOutcome, for instance.
            if not isinstance(patient, str) or not is_fhir_id(patient):
                raise FetchFailed("wrong_resource")
            with contextlib.suppress(NotInUse):
                if decide_owners(owners, self._pick(resource, patient)) is None:
                    found.add(patient)
        return frozenset(found)

    def _identifiers(self, response: FetchedResponse, patient: str) -> frozenset[PatientIdentifier]:
        _raise_if_refused(response)
        if response.status in (404, 410):
            return frozenset()
        if response.status in _REDIRECTS and self._leads_to_another(
            response.headers.get("Location", ""), patient
        ):
            raise PatientMerged
        if response.status != 200:
            raise FetchFailed("unexpected_status", f"status {response.status}")
        return self._pick(response.strict_json_object(), patient)

    def _leads_to_another(self, location: str, patient: str) -> bool:
        """Return whether a redirect names another Patient. It is not followed."""
        try:
            path = urlsplit(urljoin(f"{self.client.url}/Patient/{patient}", location)).path
        except ValueError:
            return False
        match = _PATIENT.fullmatch(path[max(0, path.rfind("/Patient/")) :])
        return match is not None and is_another(match[1], patient)

    def _pick(self, resource: Mapping[str, Any], patient: str) -> frozenset[PatientIdentifier]:
        return identifiers_of(resource, patient, self._issuers, self._now())


def _raise_if_refused(response: FetchedResponse) -> None:
    if response.status in (401, 403):
        log.error(
            "the EHR refused our own credentials for reading Patient: check patients.client",
            extra={
                "reason": "patient_refused",
                "upstream_status": response.status,
                "detail": status_and_error(response),
            },
        )
        raise BadGateway(
            "This server may not read the hospital's patient record. Its operators have been told.",
            reason="patient_refused",
        ).because(status_and_error(response))


def _escaped(text: str) -> str:
    """Return a part of a token in a search (R4 search.html#escaping)."""
    return "".join("\\" + letter if letter in "\\|,$" else letter for letter in text)
