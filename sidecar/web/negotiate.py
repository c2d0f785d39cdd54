"""Read the parameters, FHIR version, freshness and strictness of a request, and answer in them."""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import orjson
from aiohttp import hdrs, web

from sidecar.common.errors import BadRequest, NotAcceptable, Problem, UnsupportedMediaType
from sidecar.dicomweb.media_types import accept_json, media_ranges, parse_media_type
from sidecar.fhir.r5 import DEFAULT_VERSION, VERSIONS, in_version
from sidecar.fhir.result_parameters import ResultParameters, json_format, read_result
from sidecar.web.errors import FHIR_JSON
from sidecar.web.middleware import TARGET
from sidecar.web.pieces import accepts_gzip, in_pieces
from sidecar.web.target import form_parameters

BODY_SECONDS = 10
"""Time in seconds in which the body of a posted search has to come."""
_JSON = frozenset({FHIR_JSON, "application/json", "text/json"})
_TAGS = re.compile(r'\*|(?:W/)?("[!#-~]*")')


class RequestTimeout(Problem):
    """408."""

    status = 408
    code = "timeout"


async def search_parameters(http: web.Request) -> list[tuple[str, str]]:
    """Return the parameters of a search, in the URL and in the body of a POST.

    Raises ``BadRequest``, ``UnsupportedMediaType`` and ``RequestTimeout`` for the body.
    """
    parameters = form_parameters(http[TARGET].query)
    if http.method != "POST" or not http.body_exists or http.content_length == 0:
        return parameters
    if http.content_type != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType(
            "A search by POST has a body of application/x-www-form-urlencoded.", reason="bad_body"
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = (await http.read()).decode("ascii")
    except TimeoutError:
        raise RequestTimeout(
            "The body of the request did not come in time.", reason="slow_body"
        ) from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not form-encoded.", reason="bad_body") from None
    # Both count (R4 http.html#search): a body cannot take back what the query string demands.
    return parameters + form_parameters(body)


def fhir_version(request: web.Request, parameters: Sequence[tuple[str, str]]) -> str:
    """Return the FHIR version to answer in, ``4.0`` or ``5.0`` (R4 http.html#version-parameter).

    ``_format`` names it, else Accept, else it is the default. Raises ``NotAcceptable``, and
    ``BadRequest`` for a malformed Accept.
    """
    formats = [value for name, value in parameters if name == "_format" and value]
    # It comes before the header (R4 http.html#parameters).
    named = _version_of(formats[-1]) if formats else None
    if named is not None:
        return _known(named)
    accepted = media_ranges(", ".join(request.headers.getall(hdrs.ACCEPT, ())))
    if not formats and not accept_json(accepted, _JSON):
        raise NotAcceptable("This server speaks application/fhir+json.", reason="accept")
    ranges = [media for media in accepted if media.name in _JSON and media.weight]
    ranges.sort(key=lambda media: -float(media.quality or 1))  # Stable: the first of the best.
    asked = [_short(media.parameter("fhirversion")) for media in ranges]
    usable = [version for version in asked if version is None or version in VERSIONS]
    if asked and not usable:
        return _known(asked[0])
    return next(iter(usable), None) or DEFAULT_VERSION


def how_to_read(request: web.Request) -> tuple[str, ResultParameters]:
    """Return FHIR version and result parameters of a read (R4 http.html#summary).

    Other parameters mean nothing here.
    """
    parameters = form_parameters(request[TARGET].query)
    result = ResultParameters()
    for name, value in parameters:
        if name in ("_summary", "_elements", "_format", "_pretty") and value not in ("", "count"):
            result = read_result(result, name, value, maximum_count=0)
    return fhir_version(request, parameters), result


def _version_of(value: str) -> str | None:
    try:
        return _short(parse_media_type(json_format(value)).parameter("fhirversion"))
    except ValueError:
        raise NotAcceptable("This server speaks application/fhir+json.", reason="accept") from None


def _short(version: str | None) -> str | None:
    """Return ``4.0`` also for ``4.0.1``, which clients write although R4 has the short form."""
    return next((short for short, release in VERSIONS.items() if version == release), version)


def _known(version: str | None) -> str:
    if version is None:
        return DEFAULT_VERSION
    if version not in VERSIONS:
        raise NotAcceptable(f"This server speaks FHIR {' and '.join(VERSIONS)}.", reason="accept")
    return version


def wants_fresh(request: web.Request) -> bool:
    """Return whether nothing remembered is wanted (``no-cache``, RFC 9111 5.2.1.4)."""
    directives = {
        directive.strip().lower()
        for line in request.headers.getall(hdrs.CACHE_CONTROL, ())
        for directive in line.split(",")
    }
    return bool(directives & {"no-cache", "max-age=0"})


def is_strict(request: web.Request) -> bool:
    """Return whether what would be ignored is to be refused.

    That is ``Prefer: handling=strict`` (RFC 7240 4.4); the first one counts.
    """
    for line in request.headers.getall("Prefer", ()):
        for preference in line.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            if name.strip().lower() == "handling":
                return value.strip(' \t"').lower() == "strict"
    return False


def answer(
    request: web.Request, resource: Mapping[str, Any], *, version: str, pretty: bool = False
) -> web.Response:
    """Return the answer in this FHIR version, or a 304 when the client has it (R4 http.html#cread).

    It may be compressed.
    """
    body = orjson.dumps(in_version(resource, version), default=dict)
    return answer_parts(request, [body], version=version, identity=body, pretty=pretty)


def answer_parts(
    request: web.Request,
    parts: Sequence[bytes],
    *,
    version: str,
    identity: bytes,
    pretty: bool = False,
    gzip: bool = True,
    last_modified: datetime | None = None,
) -> web.Response:
    """Return the answer of a resource whose JSON is ``parts``, or a 304.

    ``gzip``: the answer may be compressed. ``identity``: what of it does not differ each time.
    ``last_modified``: its Last-Modified, which brings a 304 in If-Modified-Since.
    """
    tag = f'W/"{hashlib.blake2b(identity + version.encode(), digest_size=12).hexdigest()}"'
    headers: dict[str, str] = {hdrs.ETAG: tag}
    if last_modified is not None:
        headers[hdrs.LAST_MODIFIED] = format_datetime(last_modified.astimezone(UTC), usegmt=True)
    if request.method in ("GET", "HEAD") and _has_it(request, tag, headers.get(hdrs.LAST_MODIFIED)):
        return web.Response(status=304, headers=headers)
    if pretty:
        parts = [orjson.dumps(orjson.loads(b"".join(parts)), option=orjson.OPT_INDENT_2)]
    content_type = (
        FHIR_JSON if version == DEFAULT_VERSION else f"{FHIR_JSON}; fhirVersion={version}"
    )
    headers[hdrs.CONTENT_TYPE] = content_type + "; charset=utf-8"
    return in_pieces(parts, headers, gzip=gzip and accepts_gzip(request))


def _has_it(request: web.Request, tag: str, last_modified: str | None) -> bool:
    """Return whether the client has the answer, by If-None-Match, else by If-Modified-Since.

    The time must be the very one that we gave (RFC 9110 13.1.3 and 13.2.2). A client's own clock
    does not say what it was shown: another worker may have answered from an older list.
    """
    if hdrs.IF_NONE_MATCH in request.headers:
        return bool({"*", tag.removeprefix("W/")} & _tags(request))
    since = request.headers.getall(hdrs.IF_MODIFIED_SINCE, ())
    return last_modified is not None and list(since) == [last_modified]


def _tags(request: web.Request) -> set[str]:
    """Return the tags of If-None-Match, for a weak comparison, or ``*`` (RFC 9110 13.1.2)."""
    lines = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if [line.strip() for line in lines] == ["*"]:
        return {"*"}
    return {tag[1] for line in lines for tag in _TAGS.finditer(line) if tag[1]}


def query_warnings(ignored: Sequence[str], *, more: bool) -> list[str]:
    """Return the Warning headers for query parameters that were ignored (PS3.18 8.3, 8.3.4.2).

    ``more``: there are rows beyond our own limit (8.3.4.4.1).
    """
    texts = ["There are additional results that can be requested"] if more else []
    if "fuzzymatching" in ignored:
        texts.append(
            "The fuzzymatching parameter is not supported. "
            "Only literal matching has been performed."
        )
    if others := [name for name in ignored if name != "fuzzymatching"]:
        texts.append("Ignored query parameters: " + ", ".join(others))
    return [f'299 smart-imaging-sidecar "{warning}"' for warning in texts]
