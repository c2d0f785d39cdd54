"""What a DICOMweb request asks for: the resource of its path, its Accept header, its parameters."""

import re
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from aiohttp import hdrs, web

from sidecar.access.facts import AnswerKind, Part
from sidecar.audit.record import AccessRecord
from sidecar.authorization.authorizer import AuthorizedRequest
from sidecar.common.errors import BadRequest, Problem
from sidecar.dicomweb.paths import OBJECTS, Kind, Query, Retrieval, parse
from sidecar.pacs.client import Parameters
from sidecar.web.middleware import TARGET
from sidecar.web.target import form_parameters

R = TypeVar("R", bound=Retrieval | Query)
Resource_co = TypeVar("Resource_co", bound=Retrieval | Query, covariant=True)


class AskedFor(NamedTuple, Generic[Resource_co]):
    """The ``resource``, and how it is wanted.

    ``root``: our own URL below which the answer's URLs are. ``accept``: the Accept header, or the
    parameter in its place. ``parameters``: the query's others.
    """

    resource: Resource_co
    root: str
    accept: str | None
    parameters: Parameters


RetrievalRequest: TypeAlias = AuthorizedRequest[AskedFor[Retrieval]]
QueryRequest: TypeAlias = AuthorizedRequest[AskedFor[Query]]

# Rendering parameters that go on to the PACS (PS3.18 8.3.5), each with the characters that it may
# have.
_RENDERING = {
    "viewport": re.compile(r"[0-9.,-]{1,100}", re.ASCII),
    "window": re.compile(r"[0-9a-zA-Z.,_-]{1,100}", re.ASCII),
    "quality": re.compile(r"[1-9][0-9]?|100", re.ASCII),
    "annotation": re.compile(r"[a-z,]{1,50}", re.ASCII),
}


def parse_path(record: AccessRecord, segments: Sequence[str]) -> Retrieval | Query | Problem:
    """Return the resource of a path, recorded for the audit trail, or what is wrong with the path.

    The ``Problem`` is not raised yet: a refusal of the token comes before it.
    """
    try:
        resource = parse(segments)
    except Problem as problem:
        return problem
    note(record, resource)
    return resource


def note(record: AccessRecord, resource: Retrieval | Query) -> None:
    """Record what is asked for."""
    record.is_query = isinstance(resource, Query)
    if isinstance(resource, Retrieval):
        record.part, record.instances = resource.part, resource.kind in OBJECTS
    elif resource.study is not None:
        record.part = Part(resource.study, resource.series)


def asked_for(request: web.Request, resource: R, root: str) -> AskedFor[R]:
    """Return how the ``resource`` is asked for. Raises ``BadRequest``.

    ``accept=`` in the query is for clients that cannot set headers; it comes before the header
    (PS3.18 8.3.3.1).
    """
    parameters = form_parameters(request[TARGET].query)
    in_query = [value for name, value in parameters if name == "accept"]
    if len(in_query) > 1:
        raise BadRequest("The parameter accept is given twice.", reason="bad_accept")
    others = tuple((name, value) for name, value in parameters if name != "accept")
    # Form encoding makes a space of a "+" that is not written %2B.
    in_query = [value.replace("application/dicom ", "application/dicom+") for value in in_query]
    values = in_query or request.headers.getall(hdrs.ACCEPT, [])
    return AskedFor(resource, root, ", ".join(values) if values else None, others)


def answer_kind(retrieval: Retrieval, *, reads_text: bool) -> AnswerKind:
    """Return what the answer to a retrieval contains, and whether it can be believed.

    ``reads_text``: the texts in the archive's metadata are whole.
    """
    if retrieval.kind in OBJECTS or (retrieval.kind is Kind.METADATA and reads_text):
        return AnswerKind.NAMED
    if retrieval.kind is Kind.METADATA or retrieval.part.series is not None:
        return AnswerKind.UNNAMED
    return AnswerKind.DRAWN


def rendering_parameters(asked: AskedFor[Retrieval]) -> list[tuple[str, str]]:
    """Return the rendering parameters for the PACS. Raises ``BadRequest`` for a malformed one."""
    if asked.resource.kind not in (Kind.RENDERED, Kind.THUMBNAIL):
        return []
    rendering: dict[str, str] = {}
    for name, value in asked.parameters:
        pattern = _RENDERING.get(name)
        if pattern is None:
            continue
        if name in rendering or not pattern.fullmatch(value):
            raise BadRequest(f"The parameter {name} is malformed.", reason="bad_rendering")
        rendering[name] = value
    return list(rendering.items())
