"""A second look at what is being sent: archives are corrected meanwhile (SIA-42, 43)."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.access.facts import AnswerKind
from sidecar.access.permits import StudyPermit
from sidecar.authorization.authorizer import Authorizer, Request
from sidecar.common.errors import Problem, Unavailable
from sidecar.dicom.json_model import number, text
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.pacs.client import PacsClient
from sidecar.pacs.counts import count_instances

log = logging.getLogger(__name__)

CHANGED_SECONDS = 5
"""Seconds after which a study that has just changed may be asked for again (``Retry-After``)."""


@dataclass(frozen=True, slots=True)
class CurrentStudy:
    """A second, fresh look at the part that ``permit`` permitted to ``request``."""

    authorizer: Authorizer
    pacs: PacsClient
    request: Request
    permit: StudyPermit

    async def count(self) -> int | None:
        """Return how many instances the part has.

        ``None``: it is not there, or not only this patient's. Raises what ``count_instances``
        raises, and ``TooManyRequests``.
        """
        async with self.authorizer.queries.place(self.request.token):
            return await count_instances(self.pacs, self.permit.part, self.permit.known_as)

    async def expected(self) -> int:
        """Return how many instances the retrieval that begins now has to bring.

        Raises ``Denied`` when the archive says now that the part is not there or not this
        patient's, whatever is remembered of it; ``Unavailable`` when it says both; and what
        ``count`` raises.
        """
        count = await self.count()
        if count is None:
            part = self.permit.part
            self.authorizer.forget_study(part.study, self.permit.known_as)
            await self.authorizer.decide_again(self.request, part, AnswerKind.NAMED)
            raise Unavailable(
                "The study has just changed; try again.",
                reason="study_changed",
                retry_after=CHANGED_SECONDS,
            )
        return count

    async def has_frames(self, frames: Sequence[int]) -> bool:
        """Return ``False`` when the archive says that the instance lacks one of these frames.

        An instance that does not say how many it has is taken for a single image (PS3.3
        C.7.6.6.1.1).
        """
        part = self.permit.part
        parameters = (("SOPInstanceUID", part.instance or ""), includefield("NumberOfFrames"))
        query = Query("instances", study=part.study, series=part.series)
        with contextlib.suppress(Problem):
            async with self.authorizer.queries.place(self.request.token):
                rows = await self.pacs.search(query, parameters, limit=1, permit=self.permit)
            if [text(row, "SOPInstanceUID") for row in rows] == [part.instance]:
                return max(frames) <= (number(rows[0], "NumberOfFrames") or 1)
        return True

    async def is_corrected(self) -> bool:
        """Return whether the archive says now that the part is absent, or another patient's too."""
        return await self.authorizer.is_corrected(self.request, self.permit.part)
