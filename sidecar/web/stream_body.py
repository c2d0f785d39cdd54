"""Read the body of a PACS answer through its scanner, and find out whether it came whole."""

import asyncio
import math
from collections.abc import Mapping

import aiohttp

from sidecar.authorization.current_study import CHANGED_SECONDS, CurrentStudy
from sidecar.common.content_coding import Undecodable
from sidecar.common.errors import (
    BadGateway,
    GatewayTimeout,
    NotAcceptable,
    NotFound,
    Problem,
    Unavailable,
)
from sidecar.dicom.element import Unreadable
from sidecar.dicomweb.body_filter import Malformed, Scanner
from sidecar.dicomweb.instance_check import ExcludedInstance, ForeignInstance
from sidecar.dicomweb.zip_archive import ZipArchive
from sidecar.pacs.response import Upstream, scan
from sidecar.web.pieces import Pieces
from sidecar.web.transfer_timeout import TransferTimeout

SHORT_BYTES = 262_144
"""Limit in bytes of an answer that leaves when it is whole: with its head, in one write.

Each further write costs as much as the whole decision.
"""
SHORT_SECONDS = 1
"""Time in seconds after which the bytes of a short answer leave with the next, not with its end."""
_READING, _SCANNING = "reading", "scanning"


class TransferBroken(Exception):
    """The PACS's body did not come whole, or must not be passed on.

    ``outcome``: the label of ``streams_total``. ``foreign``: the label of
    ``verification_failures_total``, if any. ``place``: what is logged of the instance: its
    ``position`` in the answer, from 1 (in an answer that ends too early: of the last instance that
    began), and the ``rule`` and UIDs of ``Unreadable``.
    """

    def __init__(
        self,
        reason: str,
        outcome: str = "pacs_broken",
        foreign: str | None = None,
        place: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome = outcome
        self.foreign = foreign
        self.place = place or {}

    def problem(self) -> Problem:
        """Return the answer that the client gets while nothing has been sent."""
        if self.reason == "timeout":
            return GatewayTimeout(
                "The image archive took too long to answer.", reason="pacs_timeout"
            )
        if self.outcome in ("excluded", "incomplete"):
            return Unavailable(
                "The study has just changed; try again.",
                reason=self.reason,
                retry_after=CHANGED_SECONDS,
            )
        if self.outcome == "corrected":  # As the next request is answered, too (SIA-45).
            return NotFound(
                "There is no such resource, or it is not available to you.", reason=self.reason
            )
        if "rule" in self.place:
            return BadGateway(
                f"Nobody can say for certain whose instance {self.place['position']} of the image"
                f" archive's answer is ({self.place['rule']}); it was not passed on. What else"
                " there is can be had by series, and by instance.",
                reason=self.reason,
            )
        if self.foreign is not None:
            return BadGateway(
                "The image archive sent data that are not certainly this patient's; they were not "
                "passed on.",
                reason=self.reason,
            )
        if self.reason == "several_values":
            return NotAcceptable(
                "The image archive has this in several parts; ask for multipart/related.",
                reason="pacs_several_values",
            )
        return BadGateway("The image archive broke off its answer.", reason="pacs_" + self.reason)


class StreamBody:
    """A PACS answer's body, as its scanner lets it pass.

    Before its end leaves, its parts are compared with the ``current_study``. ``timeout`` bounds the
    steps.
    """

    def __init__(
        self,
        upstream: Upstream,
        scanner: Scanner,
        timeout: TransferTimeout,
        current_study: CurrentStudy,
    ) -> None:
        self._upstream = upstream
        self._scanner = scanner
        self._timeout = timeout
        self._current_study = current_study
        self.has_ended = False
        """Whether the archive's body has been read to its end."""
        self._directory: list[bytes] = []  # The pieces of a ZIP's end that are still to be sent.

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been returned."""
        return self.has_ended and not self._directory

    async def first(self, length: int | None) -> Pieces:
        """Return the first bytes, or all of a body that is short. Raises ``TransferBroken``.

        ``length``: that of the archive's body in bytes, where it is known.
        """
        pieces = await self.next()
        if length is None or length > SHORT_BYTES:
            return pieces
        clock = asyncio.get_running_loop().time
        until = clock() + SHORT_SECONDS
        while not self.has_ended and clock() < until:
            pieces = [*pieces, *await self.next()]
        return pieces

    async def next(self) -> Pieces:
        """Return the next bytes that may be sent; none at the end. Raises ``TransferBroken``.

        What closes the body comes together with what came before it, so that a short answer that is
        not complete can still be an error with a status.
        """
        passed: Pieces = [*self._directory[:1]]
        del self._directory[:1]
        while not self.has_ended:
            self._timeout.begin(_READING, self._upstream.idle_seconds)
            try:
                chunks = await self._upstream.read()
            except TimeoutError:
                raise
            except Undecodable as failure:
                raise TransferBroken(failure.reason) from None
            except (aiohttp.ClientError, OSError):
                raise TransferBroken("broken") from None
            self._timeout.begin(_SCANNING, math.inf)  # Our own work is not the archive's silence.
            try:
                if chunks:
                    passed += await scan(self._scanner, chunks)
                else:
                    self.has_ended = True
                    passed += await self._end()
            except (Malformed, Unreadable, ExcludedInstance, ForeignInstance) as refusal:
                raise self._broken(refusal) from None
            if passed and not self._scanner.is_closed:
                return passed
        return passed

    async def _end(self) -> list[bytes]:
        """Return what closes the body, or its first piece. Raises if the body is not whole."""
        end = self._scanner.end()
        await self._check_count(self._scanner.parts)
        if isinstance(self._scanner, ZipArchive):
            self._timeout.begin(_SCANNING, math.inf)
            end, *self._directory = await asyncio.to_thread(self._scanner.directory)
        return [end] if end else []

    async def _check_count(self, parts: int) -> None:
        """Raise ``TransferBroken`` unless ``parts`` is the number of instances in the archive.

        Images that arrive meanwhile are no fault: any number from the one that was counted before
        to the one that is counted now will do.
        """
        before = self._upstream.expected
        if before is None or parts == before:
            return
        self._timeout.begin(_READING, self._upstream.idle_seconds)
        try:
            now = await self._current_study.count()
        except Problem:
            now = None
        if now is None or not min(before, now) <= parts <= now:
            raise TransferBroken("incomplete", "incomplete")

    def _broken(
        self, refusal: Malformed | Unreadable | ExcludedInstance | ForeignInstance
    ) -> TransferBroken:
        """Return the failure of the transfer for what the scanner raised."""
        failed = "verification_failed"
        place: dict[str, str | int] = {"position": self._scanner.parts}
        match refusal:
            case Malformed():
                return TransferBroken(refusal.reason, place=place)
            case Unreadable():
                place |= {"rule": refusal.rule, **refusal.uids}
                return TransferBroken("unreadable_instance", failed, "unreadable_instance", place)
            case ExcludedInstance():
                return TransferBroken("excluded_series", "excluded")
            case ForeignInstance():
                return TransferBroken("foreign_" + refusal.what, failed, refusal.what)
