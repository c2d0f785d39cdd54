"""Find the patients that instances name, for answers that carry no patient inside (SIA-42).

A frame, a drawn image or bulk data cannot be checked while it is sent. The rows that name its owner
are text, of which an archive may lose characters: one read a number after a Cyrillic letter as the
number alone. So one instance of each series is opened first. Nothing of it is sent to the client.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from sidecar.access.decision import are_own_instances
from sidecar.access.facts import (
    InstanceHeader,
    KnownAs,
    Part,
    PatientIdentifier,
)
from sidecar.access.permits import HeaderPermit
from sidecar.common.errors import (
    BadGateway,
    GatewayTimeout,
    NotAcceptable,
    NotFound,
    Problem,
    Unavailable,
)
from sidecar.common.invalidation import NEGATIVE_SECONDS, Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.dicom.element import Unreadable
from sidecar.dicom.json_model import text
from sidecar.dicom.uid import is_uid
from sidecar.dicomweb.body_filter import Malformed, Scanner, SingleInstance
from sidecar.dicomweb.metadata import Metadata
from sidecar.dicomweb.multipart import Multipart
from sidecar.dicomweb.paths import UID_OF_LEVEL, Kind, Query, Retrieval
from sidecar.dicomweb.query import includefield
from sidecar.dicomweb.response_head import ResponseHead, check_head
from sidecar.dicomweb.upstream_accept import accepted_types
from sidecar.pacs.client import PacsClient
from sidecar.pacs.response import Upstream, scan
from sidecar.pacs.retrieve import RetrieveClient

log = logging.getLogger(__name__)

MAXIMUM_SERIES = 500
"""Limit of the series of a study; one with more is refused."""
AT_ONCE = 4
"""Limit of the series of one study that are looked at concurrently."""
MAXIMUM_BYTES = 16 * 2**20
"""Limit in bytes of what is read of an instance; its patient is near the beginning."""

_Asked = tuple[Part, KnownAs]
"""A series or instance, and the identifiers of the patient."""
# The archive does not have the resource in this form.
_NOT_THERE = frozenset({400, 404, 405, 406, 410, 415, 501})
NOBODY = PatientIdentifier("")


class InstancePatients:
    """Find and cache the patients that instances name in themselves, by series.

    What is the patient's is cached for ``ttl_seconds``, what is not for ``absent_seconds``; at most
    ``max_entries`` each. ``clock``: monotonic, in seconds. ``header_first``: read the instance's
    header, and its metadata where the archive does not return the instance; else the other way
    round, for archives whose files have older PatientIDs than their database. ``row_bytes``: limit
    in bytes of one instance's metadata. ``drop(what)`` is called for an unreadable instance.
    """

    def __init__(
        self,
        client: PacsClient,
        retrievals: RetrieveClient,
        *,
        header_first: bool = True,
        row_bytes: int = 2**20,
        ttl_seconds: float = 300,
        absent_seconds: float = NEGATIVE_SECONDS,
        max_entries: int = 20_000,
        drop: Callable[[str], None] = lambda what: None,
        invalidation: Invalidation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._retrievals = retrievals
        self._kinds = (
            (Kind.INSTANCE, Kind.METADATA) if header_first else (Kind.METADATA, Kind.INSTANCE)
        )
        self._row_bytes = row_bytes
        self._drop = drop
        self._invalidation = invalidation
        self._own: LoadingCache[_Asked, frozenset[PatientIdentifier]] = LoadingCache(
            invalidation,
            lambda asked: {known.patient_id for known in asked[1]},
            max_entries=max_entries,
            ttl_seconds=ttl_seconds,
            # ``_refused`` has what is not the patient's.
            negative_seconds=0,
            is_negative=lambda asked, patients: not are_own_instances(patients, asked[1]),
            study=lambda asked: asked[0].study,
            clock=clock,
        )
        # Independent of the study's generation: what was refused a moment ago stays refused.
        self._refused: LoadingCache[_Asked, frozenset[PatientIdentifier]] = LoadingCache(
            invalidation, max_entries=max_entries, ttl_seconds=absent_seconds, clock=clock
        )

    def cached(self, part: Part, known_as: KnownAs) -> frozenset[PatientIdentifier] | None:
        """Return what ``of`` has cached of a series or an instance, else ``None``."""
        if part.series is None:
            return None
        asked = self._asked(part, known_as)
        return self._own.peek(asked) or self._refused.peek(asked)

    async def of(self, permit: HeaderPermit) -> frozenset[PatientIdentifier]:
        """Return the patients that the permitted part's instances name, one of each series.

        An instance that is not where it was asked for names nobody. Raises ``BadGateway``
        (``unreadable_patient``) when none can be read, ``NotFound`` when there is none, and what
        the clients raise.
        """
        study = permit.part.study
        if permit.part.series is not None:
            return await self._of_series(permit, permit.part)
        limit = asyncio.Semaphore(AT_ONCE)

        async def look(series: str) -> frozenset[PatientIdentifier]:
            async with limit:
                return await self._of_series(permit, Part(study, series))

        looks = [asyncio.ensure_future(look(series)) for series in await self._series(permit)]
        try:
            patients = await asyncio.gather(*looks)
        finally:
            for look_task in looks:  # After a failure nothing more is looked at.
                look_task.cancel()
        return frozenset[PatientIdentifier]().union(*patients)

    async def _series(self, permit: HeaderPermit) -> list[str]:
        study = permit.part.study
        rows = await self._client.search(
            Query("series", study=study),
            (includefield("StudyInstanceUID"),),
            limit=MAXIMUM_SERIES + 1,
            permit=permit,
        )
        uids = {
            uid
            for row in rows
            if text(row, "StudyInstanceUID") == study and (uid := text(row, "SeriesInstanceUID"))
        }
        if len(rows) > MAXIMUM_SERIES or not all(map(is_uid, uids)):
            raise self._refused_for("series", Part(study))
        return sorted(uids)

    async def _of_series(self, permit: HeaderPermit, part: Part) -> frozenset[PatientIdentifier]:
        if (known := self.cached(part, permit.known_as)) is not None:
            return known
        asked = self._asked(part, permit.known_as)
        return await self._own.reload(asked, lambda: self._look(permit, part, asked))

    def _asked(self, part: Part, known_as: KnownAs) -> _Asked:
        # A study is forgotten when something foreign was seen in it. From then on each instance is
        # opened, not one for its series.
        _, forgotten = self._invalidation.stamp(part.study)
        return part if forgotten else Part(part.study, part.series), known_as

    async def _look(
        self, permit: HeaderPermit, part: Part, asked: _Asked
    ) -> frozenset[PatientIdentifier]:
        started = self._own.stamp(asked)
        if part.instance is None:
            part = await self._any_instance(permit, part)
        header = await self._header(permit, part)
        is_where = (header.study, header.series, header.instance) == (
            part.study,
            part.series,
            part.instance,
        )
        patients = frozenset({header.patient if is_where else NOBODY})
        # After a forgetting, the answer may be older than what caused it.
        if started == self._own.stamp(asked) and not are_own_instances(patients, asked[1]):
            self._refused.put(asked, patients, self._refused.stamp(asked))
        return patients

    async def _any_instance(self, permit: HeaderPermit, part: Part) -> Part:
        parameters = (includefield("StudyInstanceUID", "SeriesInstanceUID"),)
        query = Query("instances", study=part.study, series=part.series)
        for row in await self._client.search(query, parameters, limit=1, permit=permit):
            instance = Part(*(text(row, level) or "" for level in UID_OF_LEVEL.values()))
            if (instance.study, instance.series) == (part.study, part.series) and is_uid(
                instance.instance or ""
            ):
                return instance
        raise NotFound(
            "There is no such resource, or it is not available to you.", reason="pacs_absent"
        )

    async def _header(self, permit: HeaderPermit, part: Part) -> InstanceHeader:
        statuses = []
        for kind in self._kinds:
            retrieval = Retrieval(kind, part)
            async with await self._retrievals.open(
                permit, retrieval, accept=accepted_types(None, retrieval).upstream
            ) as upstream:
                if upstream.status not in _NOT_THERE:
                    return await self._read(upstream, kind, part)
                statuses.append(upstream.status)
        if set(statuses) <= {404, 410}:
            raise NotFound(
                "There is no such resource, or it is not available to you.", reason="pacs_absent"
            )
        raise self._refused_for("status", part)

    async def _read(self, upstream: Upstream, kind: Kind, part: Part) -> InstanceHeader:
        try:
            head = check_head(upstream.status, upstream.headers, kind, chunked=upstream.chunked)
        except (BadGateway, NotAcceptable) as problem:
            raise self._refused_for(problem.reason, part) from None
        scanner = self._scanner(head, kind)
        try:
            async with asyncio.timeout(upstream.idle_seconds):
                await _feed(upstream, scanner)
        except _Found as found:
            return found.header
        except TimeoutError:
            raise GatewayTimeout(
                "The image archive took too long to answer.", reason="pacs_timeout"
            ) from None
        except Malformed:
            raise self._refused_for("malformed", part) from None
        except Unreadable as refused:
            raise self._refused_for(refused.rule, part) from None
        except (aiohttp.ClientError, OSError):
            raise Unavailable(
                "The image archive cannot be reached now; try again.", reason="pacs_broken"
            ) from None
        raise self._refused_for("no_header", part)

    def _scanner(self, head: ResponseHead, kind: Kind) -> Scanner:
        if kind is Kind.METADATA:
            return Metadata(_found, self._client.root, row_bytes=self._row_bytes)
        return (
            SingleInstance(_found)
            if head.boundary is None
            else Multipart(head.boundary, kind, self._client.root, _found)
        )

    def _refused_for(self, why: str, part: Part) -> Problem:
        """Log and return the refusal of an answer about ``part``.

        ``why``: a rule of docs/files.md, or what else is wrong with the answer.
        """
        place = {level: uid for level, uid in part._asdict().items() if uid}
        log.error(
            "an instance does not say whose it is",
            extra={"reason": "unreadable_patient", "detail": why} | place,
        )
        self._drop("unreadable_instance")
        return BadGateway(
            "The image archive does not say for certain whose images these are; "
            "they were not passed on.",
            reason="unreadable_patient",
        ).because(why)

    async def close(self) -> None:
        """Cancel the queries that are under way."""
        await self._own.close()


class _Found(Exception):
    """The patient of the instance was read: the rest is not needed."""

    def __init__(self, header: InstanceHeader) -> None:
        super().__init__()
        self.header = header


def _found(header: InstanceHeader) -> None:
    raise _Found(header)


async def _feed(upstream: Upstream, scanner: Scanner) -> None:
    """Pass the body to ``scanner`` until that raises. Raises ``Malformed`` for too long a body."""
    size = 0
    while came := await upstream.read():
        await scan(scanner, came)
        size += sum(map(len, came))
        if size > MAXIMUM_BYTES:
            raise Malformed("too_large")
    scanner.end()
