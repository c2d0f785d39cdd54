"""A PACS that pages, more or less as the standard says, and a client of it that asks for five rows
at once.
"""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web

from sidecar.access.facts import Part
from sidecar.dicomweb.paths import Kind, Query, Retrieval
from sidecar.pacs.client import PacsClient
from sidecar.pacs.dialects import Dialect
from sidecar.pacs.retrieve import RetrieveClient
from tests.common.peer import Peer, Reply
from tests.permits import study_permit

STUDIES = Query("studies")
PAGE = 5
ONE_PAGE_OF_5 = Dialect("generic", page_size=PAGE)
REMAIN = 'pacs:8080 "There are {} additional results that can be requested"'


def rows(first: int, number: int) -> list[dict[str, Any]]:
    """Study rows, each with its own UID."""
    return [
        {"0020000D": {"vr": "UI", "Value": [f"1.2.{at}"]}} for at in range(first, first + number)
    ]


def numbers(found: list[Any]) -> list[int]:
    """The numbers of such rows."""
    return [int(row["0020000D"]["Value"][0].rpartition(".")[2]) for row in found]


def pacs(session: aiohttp.ClientSession, peer: Peer, **more: Any) -> PacsClient:
    """The client of a PACS that pages by five."""
    return PacsClient(session, peer.url + "/rs", ONE_PAGE_OF_5, **{"timeout_seconds": 60, **more})


def retrievals(session: aiohttp.ClientSession, peer: Peer, **more: Any) -> RetrieveClient:
    """The client for retrievals from the same PACS."""
    return RetrieveClient(
        session, peer.url + "/rs", ONE_PAGE_OF_5, **{"timeout_seconds": 60, **more}
    )


def archive(
    total: int,
    *,
    most: int = 1_000,
    honours: str = "limit offset",
    warns: bool = False,
    **more: Any,
) -> Reply:
    """A PACS with ``total`` studies that answers at most ``most`` at once."""

    async def write(request: web.Request) -> web.StreamResponse:
        offset = int(request.query.get("offset", "0")) if "offset" in honours else 0
        limit = int(request.query["limit"]) if "limit" in honours else total
        page = rows(offset, max(0, min(limit, most, total - offset)))
        remain = total - offset - len(page)
        headers = {"Warning": "299 " + REMAIN.format(remain)} if warns and remain > 0 else {}
        if not page and more.get("empty") == 204:
            return web.Response(status=204)
        return web.json_response(page, headers=headers, content_type="application/dicom+json")

    return Reply(write=write)


def pages_asked(peer: Peer) -> list[tuple[int, int]]:
    """The (limit, offset) of each query."""
    asked = [parse_qs(urlsplit(one.target).query) for one in peer.asked]
    return [(int(one["limit"][0]), int(one.get("offset", ["0"])[0])) for one in asked]


PART = Part("1.2", "1.3", "1.4")
PERMIT = study_permit("p1", PART)
RETRIEVAL = Retrieval(Kind.INSTANCE, PART)
