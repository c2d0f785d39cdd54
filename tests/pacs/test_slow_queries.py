"""A slow query that goes on in the background: for the same patient alone, and not beyond a
forgetting (SIA-23, 42).
"""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import Unavailable
from sidecar.dicom.json_model import Row
from sidecar.dicomweb.paths import Query
from sidecar.pacs.client import PacsClient
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import DIALECTS
from tests.common.peer import Peer, Reply

A, B = frozenset({PatientIdentifier("a")}), frozenset({PatientIdentifier("b")})
BY_UID = (Query("studies"), (("StudyInstanceUID", "1.2"),), A)
BY_PATIENT: Any = (Query("studies"), (("PatientID", "a"),), frozenset())
BELOW = (Query("series", study="1.2"), (), A)


class Slow:
    """A PACS whose first answers wait, and are of then."""

    def __init__(self, peer: Peer, session: aiohttp.ClientSession) -> None:
        self.ready, self.now = asyncio.Event(), "old"
        self.peer = peer
        self.deferred = DeferredRequests[list[Row]](lambda rows: None, patience_seconds=1)
        self.client = PacsClient(
            session, peer.url, DIALECTS["generic"], timeout_seconds=60, deferred=self.deferred
        )
        peer.say(Reply(write=self._answer))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        said = self.now
        if said == "old":
            await self.ready.wait()
        row = {
            "0020000D": {"vr": "UI", "Value": ["1.2"]},
            "00081030": {"vr": "LO", "Value": [said]},
        }
        return web.json_response([row], content_type="application/dicom+json")

    async def search(
        self, query: Query, parameters: Any, known_as: frozenset[PatientIdentifier]
    ) -> str:
        """When the answer is of."""
        (row,) = await self.client.search(query, parameters, limit=1, known_as=known_as)
        return str(row["00081030"]["Value"][0])


@pytest.fixture
async def slow(peer: Peer, session: aiohttp.ClientSession) -> Any:
    made = Slow(peer, session)
    yield made
    made.ready.set()
    await made.deferred.close()


@pytest.mark.parametrize(
    ("asked", "changed", "kept"),
    [
        (BY_UID, {"a"}, False),
        (BY_UID, {"b"}, False),
        (BELOW, {"b"}, False),
        (BY_PATIENT, {"a"}, False),
        (BY_PATIENT, {"b"}, True),
        (BY_PATIENT, None, False),
        (BY_UID, set(), False),
    ],
)
async def test_rows_from_before_a_change_are_given_to_nobody(
    slow: Slow, asked: Any, changed: set[str] | None, kept: bool
) -> None:
    """What was asked for by UID may change with any patient; what by PatientID with that one."""
    with pytest.raises(Unavailable):
        await slow.search(*asked)
    slow.deferred.forget(changed)
    slow.now = "new"
    slow.ready.set()
    assert await slow.search(*asked) == ("old" if kept else "new")


@pytest.mark.parametrize("asked", [BY_UID, BELOW])
async def test_what_was_asked_for_one_patient_is_not_for_another(slow: Slow, asked: Any) -> None:
    """Nor could another tell by the time of the answer that it was asked (SIA-45)."""
    with pytest.raises(Unavailable):
        await slow.search(*asked)
    slow.now = "new"
    slow.ready.set()
    assert await slow.search(asked[0], asked[1], B) == "new"
    assert await slow.search(*asked) == "old"
