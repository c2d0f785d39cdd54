"""Answer a HEAD of a retrieval by what the archive answers to a HEAD (RFC 9110 9.3.2)."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from sidecar.access.permits import StudyPermit
from sidecar.common.errors import BadGateway
from sidecar.common.fetch import FetchedResponse
from sidecar.dicomweb.conditional import heeds_ranges, to_client
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.dicomweb.response_head import check_head
from sidecar.pacs.client import Parameters
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.web.stream import client_head, response_to


async def head_answer(
    retrievals: RetrieveClient,
    permit: StudyPermit,
    resource: Retrieval,
    *,
    accept: str,
    parameters: Parameters,
    conditions: Mapping[str, str],
    unwrap: bool,
    decide_from_token_again: Callable[[], Awaitable[None]],
) -> web.StreamResponse | None:
    """Return the head of the answer to a GET; ``None``: only a GET shows it.

    ``unwrap``: one part leaves without its multipart. Raises the ``Problem`` that the client gets
    instead, and what ``decide_from_token_again`` raises.
    """
    answer = await retrievals.head(
        permit, resource, accept=accept, parameters=parameters, conditions=conditions
    )
    if answer is None:
        return None
    await decide_from_token_again()
    if answer.status == 304 and conditions:
        return web.Response(status=304, headers=to_client(answer.headers, partial=False))
    try:
        return _head(answer, resource.kind, unwrap=unwrap, ranged="Range" in conditions)
    except BadGateway:
        return None


def _head(answer: FetchedResponse, kind: Kind, *, unwrap: bool, ranged: bool) -> web.StreamResponse:
    """Return the head without the lines that only the body has.

    The length of a multipart or of metadata is not known: their parts and rows are written anew.
    """
    head = check_head(answer.status, answer.headers, kind, chunked=True, ranged=ranged)
    length = head.content_length if head.boundary is None and kind is not Kind.METADATA else None
    ranges = head.boundary is None and heeds_ranges(kind)
    sent = client_head(head, kind, unwrap=unwrap, zipped=False)
    return response_to(answer.headers, sent, kind.value, length=length, ranges=ranges)
