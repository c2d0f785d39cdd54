"""The answer to a HEAD of a retrieval, by what the archive says to a HEAD (RFC 9110 9.3.2)."""

from aiohttp import web

from sidecar.common.fetch import Answer
from sidecar.dicomweb.conditional import heeds_ranges, to_client
from sidecar.dicomweb.paths import Kind
from sidecar.dicomweb.response_head import check_head
from sidecar.web.stream import response_to, without_multipart


def head_answer(told: Answer, kind: Kind, *, unwrap: bool, is_conditional: bool, ranged: bool) -> web.StreamResponse:
    """Return the head of the answer to a GET, without the lines that only its body tells.

    ``unwrap``: one part leaves without its multipart. The length of a multipart or of metadata is not known: their
    parts and rows are written anew. Raises the ``Problem`` that the client gets instead.
    """
    if told.status == 304 and is_conditional:
        return web.Response(status=304, headers=to_client(told.headers, partial=False))
    head = check_head(told.status, told.headers, kind, chunked=True, ranged=ranged)
    length = head.content_length if head.boundary is None and kind is not Kind.METADATA else None
    ranges = head.boundary is None and heeds_ranges(kind)
    if unwrap and head.boundary is not None:
        head = without_multipart(head, kind)
    return response_to(told.headers, head, kind.value, length=length, ranges=ranges)
