"""How long a PACS that answers no HEAD is left alone (RFC 9110 9.3.2)."""

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from sidecar.pacs import head_requests
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.head_requests import NOT_ANSWERED_SECONDS, HeadRequests
from tests.common.peer import Clock, Peer, Reply
from tests.waiting import forever

GOOD = Reply("x", 200, {"Content-Type": "image/jpeg"})


async def _never(request: web.Request) -> web.StreamResponse:
    await forever()


@pytest.mark.parametrize("first", [Reply("", 404), Reply(write=_never)], ids=["404", "silence"])
async def test_a_pacs_without_heads_is_asked_again_later(
    peer: Peer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, first: Reply
) -> None:
    """One that lets a HEAD hang must not cost each client ``HEAD_SECONDS``."""
    monkeypatch.setattr(head_requests, "HEAD_SECONDS", 0.2)
    clock, seen = Clock(), list[str]()
    requests = HeadRequests(
        session, DIALECTS["generic"], lambda kind, status, seconds: seen.append(status), clock
    )
    found = []
    for reply, seconds in ((first, 0), (GOOD, NOT_ANSWERED_SECONDS - 1), (GOOD, 2)):
        peer.say(reply)
        clock.now += seconds
        found.append(await requests.ask(URL(peer.url), "rendered", {}) is not None)
    assert found == [False, False, True]
    assert len(seen) == 2
    assert seen[-1] == "200"
