"""Find the owners of all studies of a list: it must show nothing that a read refuses (SIA-42).

A PACS may hold one StudyInstanceUID for two patients. So the query has a list of UIDs
(PS3.18 8.3.4.1), and no PatientID.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from sidecar.access.decision import decide_owners
from sidecar.access.facts import KnownAs, PatientIdentifier
from sidecar.access.permits import Inquiry
from sidecar.common.errors import BadGateway
from sidecar.common.slices import in_slices
from sidecar.dicom.character_sets import is_known_text
from sidecar.dicom.json_model import text
from sidecar.dicom.owner import owner_of
from sidecar.dicom.uid import is_uid
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.dicomweb.upstream_errors import UNUSABLE, UnknownTexts
from sidecar.pacs.client import PacsClient
from sidecar.pacs.ownership import Ownership

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Limit of concurrent queries for one list."""
AT_ONCE_FOR_ALL = 8
"""Limit of concurrent queries for all lists."""
NO_LISTS_SECONDS = 3_600
"""Time in seconds for which a PACS that takes no lists of UIDs gets one UID a query."""

_FIELDS = includefield("StudyInstanceUID", "PatientID", "IssuerOfPatientID")

Owners = frozenset[PatientIdentifier]


class StudyOwners:
    """Query the PACS by lists of UIDs, while it takes them. ``clock``: monotonic, in seconds."""

    def __init__(
        self,
        client: PacsClient,
        ownership: Ownership,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._ownership = ownership
        self._clock = clock
        self._no_lists_until = float("-inf")
        self._all = asyncio.Semaphore(AT_ONCE_FOR_ALL)

    @property
    def takes_lists(self) -> bool:
        """Whether the PACS takes lists of UIDs, as far as is known."""
        return self._clock() >= self._no_lists_until

    async def in_lists(
        self, uids: Iterable[str], ask: Callable[[Sequence[str]], Awaitable[None]]
    ) -> None:
        """Call ``ask`` with lists of those of the UIDs that can be asked for, some at a time.

        Raises what it raises, at once.
        """
        list_queries = asyncio.Semaphore(AT_ONCE)

        async def ask_one(batch: Sequence[str]) -> None:
            async with list_queries, self._all:
                await ask(batch)

        tasks = [
            asyncio.ensure_future(ask_one(batch))
            for batch in _batches(filter(is_uid, uids), self._client.dialect.uid_list)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # After a failure the PACS is not asked the rest.
                task.cancel()

    async def of(
        self, studies: Iterable[str], known_as: KnownAs, arrived: dict[str, Owners] | None = None
    ) -> dict[str, Owners]:
        """Return the patients of every study that the PACS has under each of these UIDs.

        There are none for a UID that the PACS does not have, or cannot be asked for. The cached
        owners of a study that is not the patient's alone (``known_as``) are forgotten. ``arrived``
        has what an earlier try found before it failed, and gets what this one finds. Raises what
        ``PacsClient.search`` raises.
        """
        known = {} if arrived is None else arrived
        wanted = dict.fromkeys(studies)
        if odd := sum(not is_uid(uid) for uid in wanted):
            log.warning(
                "the PACS lists studies under UIDs that it cannot be asked for",
                extra={"studies": odd},
            )

        async def ask(batch: Sequence[str]) -> None:
            known.update(await self._ask(batch, known_as))

        await self.in_lists((uid for uid in wanted if uid not in known), ask)
        owners = {uid: known.get(uid, frozenset()) for uid in wanted}
        for uid in await in_slices(
            uid if decide_owners(found_owners, known_as) is not None else None
            for uid, found_owners in owners.items()
        ):
            self._ownership.forget_owners(uid, known_as)
        return owners

    async def _ask(self, batch: Sequence[str], known_as: KnownAs) -> Mapping[str, Owners]:
        if len(batch) > 1 and not self.takes_lists:
            return await self._one_by_one(batch, known_as)
        owners: Mapping[str, Owners] = {}
        try:
            owners = await self._search(batch, known_as)
        except UnknownTexts:  # Some have an owner who cannot be read: which, a query each shows.
            return await self._one_by_one(batch, known_as)
        except BadGateway:  # The PACS may refuse a list.
            if len(batch) == 1:
                raise
        missing = [uid for uid in batch if not owners.get(uid)]
        if not missing or len(batch) == 1:
            return owners
        # They are gone, or the list was cut or not understood. Then the owners of the others may be
        # incomplete, too.
        singly = await self._one_by_one(batch, known_as)
        if any(singly[uid] for uid in missing):
            log.warning(
                "the PACS does not take lists of UIDs: "
                "the owners of listed studies are asked for one by one"
            )
            self._no_lists_until = self._clock() + NO_LISTS_SECONDS
        return singly

    async def _search(self, batch: Sequence[str], known_as: KnownAs) -> Mapping[str, Owners]:
        parameters = (("StudyInstanceUID", ",".join(batch)), _FIELDS)
        # All rows: an owner who was not seen would count as nobody.
        rows = await self._client.search(Query("studies"), parameters, permit=Inquiry(known_as))
        owners_of: dict[str, set[PatientIdentifier]] = {uid: set() for uid in batch}
        for row in rows:
            if (uid := text(row, "StudyInstanceUID")) in owners_of:
                owners_of[uid].add(owner_of(row))
            elif uid is not None and not is_known_text(uid):  # It may be any of them.
                raise UnknownTexts(UNUSABLE, reason="unreadable_uid")
        return {uid: frozenset(owners) for uid, owners in owners_of.items()}

    async def _one_by_one(self, batch: Sequence[str], known_as: KnownAs) -> dict[str, Owners]:
        return {uid: await self._ownership.owners(uid, known_as) for uid in batch}


def _batches(uids: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yield lists of UIDs with at most ``most`` characters, commas between them included."""
    batch: list[str] = []
    characters = 0
    for uid in uids:
        if batch and characters + len(uid) > most:
            yield batch
            batch, characters = [], 0
        batch.append(uid)
        characters += len(uid) + 1
    if batch:
        yield batch
