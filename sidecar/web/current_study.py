"""What the archive says now of what is being sent: archives are corrected meanwhile (SIA-42, 43)."""

import logging
from dataclasses import dataclass

from sidecar.access.decision import Part, PatientPermit
from sidecar.common.errors import Unavailable
from sidecar.pacs.client import PacsClient
from sidecar.pacs.counts import count_instances
from sidecar.pacs.ownership import KnownAs
from sidecar.web.guard import Guard

log = logging.getLogger(__name__)

CHANGED_SECONDS = 5
"""Seconds after which a study that has just changed may be asked for again (``Retry-After``)."""


@dataclass(frozen=True, slots=True)
class CurrentStudy:
    """What the archive says now of ``part``, which ``permit``'s patient, ``known_as`` so, was permitted."""

    guard: Guard
    pacs: PacsClient
    permit: PatientPermit
    part: Part
    known_as: KnownAs

    async def count(self) -> int | None:
        """Return how many instances the part has; ``None``: it is not there, or not only this patient's.

        Raises what ``count_instances`` raises, and ``TooManyRequests``.
        """
        async with self.guard.query_place(self.permit):
            return await count_instances(self.pacs, self.part, self.known_as)

    async def expected(self) -> int:
        """Return how many instances the retrieval that begins now has to bring.

        Raises ``Denied`` when the archive says now that the part is not there or not this patient's, whatever is
        remembered of it; ``Unavailable`` when it says both; and what ``count`` raises.
        """
        found = await self.count()
        if found is None:
            self.guard.forget_study(self.part.study, self.known_as)
            await self.guard.study(self.permit, self.part)
            raise Unavailable(
                "The study has just changed; try again.", reason="study_changed", retry_after=CHANGED_SECONDS
            )
        return found

    async def is_corrected(self) -> bool:
        """Whether the archive says now that the part is not there, or not only this patient's."""
        return await self.guard.is_corrected(self.permit, self.part, self.known_as)
