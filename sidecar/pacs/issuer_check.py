"""Check that a PatientID without a known issuer is one person's (PS3.3 C.7.1.1).

A site that configures no issuer says "our numbers are unique". That is wrong where the PACS has a
number under several issuers, or with an issuer and without one. Then the owner of the images is not
known, and nothing is served (SIA-16).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from sidecar.access.decision import is_unambiguous
from sidecar.access.facts import PatientIdentifier
from sidecar.access.permits import Inquiry
from sidecar.access.wildcards import matches
from sidecar.common.errors import BadGateway
from sidecar.common.invalidation import NEGATIVE_SECONDS, Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import in_slices
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.pacs.client import PacsClient

log = logging.getLogger(__name__)

UNIQUE_SECONDS = 15
"""Time in seconds for which a number counts as one person's; later images may be another's."""


def is_generated(issuer: str, patterns: Sequence[str]) -> bool:
    """Return whether ``issuer`` matches a pattern of those that the PACS makes up itself."""
    return any(matches(pattern, issuer) for pattern in patterns)


class Issuers:
    """Find and cache whether the PACS has a number under several issuers.

    ``generated``: patterns (``*``, ``?``) of issuers that the PACS makes up itself; they count as
    none. That a number is one person's is cached for ``ttl_seconds``, that it is several people's
    for ``NEGATIVE_SECONDS`` at most; at most ``max_entries`` each.
    """

    def __init__(
        self,
        client: PacsClient,
        *,
        generated: Sequence[str] = (),
        ttl_seconds: float = UNIQUE_SECONDS,
        max_entries: int = 50_000,
        invalidation: Invalidation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._generated = tuple(generated)
        self._has_joined = False
        self._unique: LoadingCache[str, bool] = LoadingCache(
            invalidation,
            lambda patient_id: {patient_id},
            max_entries=max_entries,
            ttl_seconds=ttl_seconds,
            negative_seconds=min(ttl_seconds, NEGATIVE_SECONDS),
            is_negative=lambda patient_id, unique: not unique,
            clock=clock,
        )

    async def check(self, known_as: Iterable[PatientIdentifier]) -> None:
        """Raise ``BadGateway`` when the PACS has a number without issuer for several people."""
        unknown = [
            known.patient_id
            for known in known_as
            if known.issuer is None and not self._unique.peek(known.patient_id)
        ]
        # Nearly always all are cached: then no task is started.
        if unknown and not all(await asyncio.gather(*map(self._is_unique, sorted(unknown)))):
            raise BadGateway(
                "The image archive has several people under this patient's number. "
                "The hospital's operators have been told.",
                reason="several_issuers",
            )

    async def _is_unique(self, patient_id: str) -> bool:
        return await self._unique.get(patient_id, lambda: self._ask(patient_id))

    async def _ask(self, patient_id: str) -> bool:
        parameters = (("PatientID", patient_id), includefield("PatientID", "IssuerOfPatientID"))
        nobody = Inquiry(frozenset())  # Rows of all patients are wanted.
        rows = await self._client.search(Query("studies"), parameters, permit=nobody)
        owners = await in_slices(map(owner_of, rows))
        named = {owner.issuer for owner in owners if owner.patient_id == patient_id}
        issuers = {self._counted(issuer) for issuer in named}
        is_unique = is_unambiguous(issuers)
        if not is_unique:
            log.error(
                "the PACS has one PatientID under several issuers: set the issuer in patients "
                "(docs/configuration.md), or pacs.generated_issuers (docs/dcm4chee.md)",
                extra={"reason": "several_issuers", "issuers": len(issuers)},
            )
        elif len(named) > 1:
            self._log_joined(len(named))
        return is_unique

    def _log_joined(self, count: int) -> None:
        """Log once that a number counts as one person's by the patterns alone."""
        if not self._has_joined:
            self._has_joined = True
            log.warning(
                "the PACS has a PatientID under several issuers that pacs.generated_issuers "
                "lets count as none: it is taken for one person's; this is logged once",
                extra={
                    "reason": "generated_issuers",
                    "patterns": list(self._generated),
                    "issuers": count,
                },
            )

    def _counted(self, issuer: str | None) -> str | None:
        return None if issuer is None or is_generated(issuer, self._generated) else issuer

    async def close(self) -> None:
        """Cancel the queries that are under way."""
        await self._unique.close()
