"""What a FHIR client wants to be answered in: JSON of which FHIR version, fresh or not, and what it has already."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import hdrs, web

from sidecar.common.errors import NotAcceptable
from sidecar.dicomweb.accept import accepts_json, parse_accept
from sidecar.dicomweb.media_type import parse_media_type
from sidecar.fhir.r5 import DEFAULT_VERSION, VERSIONS, to_r5
from sidecar.fhir.result_parameters import json_format
from sidecar.web.errors import FHIR_JSON
from sidecar.web.pieces import accepts_gzip, in_pieces

_JSON = frozenset({FHIR_JSON, "application/json", "text/json"})
_TAGS = re.compile(r'\*|(?:W/)?("[!#-~]*")')


def fhir_version(request: web.Request, parameters: Sequence[tuple[str, str]]) -> str:
    """Return the FHIR version to answer in, ``4.0`` or ``5.0``: ``_format``, else Accept, else the default.

    R4 http.html#version-parameter. Raises ``NotAcceptable``, and ``BadRequest`` for a malformed
    Accept.
    """
    formats = [value for name, value in parameters if name == "_format" and value]
    # It comes before the header (R4 http.html#parameters).
    named = _version_of(formats[-1]) if formats else None
    if named is not None:
        return _known(named)
    accept = ", ".join(request.headers.getall(hdrs.ACCEPT, ()))
    if not formats and not accepts_json(accept, _JSON):
        raise NotAcceptable("This server speaks application/fhir+json.", reason="accept")
    ranges = [one for one in parse_accept(accept) if one.media_type in _JSON and one.weight]
    ranges.sort(key=lambda one: -float(one.quality or 1))  # Stable: the first of the best.
    asked = [_short(one.parameter("fhirversion")) for one in ranges]
    usable = [one for one in asked if one is None or one in VERSIONS]
    if asked and not usable:
        return _known(asked[0])
    return next(iter(usable), None) or DEFAULT_VERSION


def _version_of(value: str) -> str | None:
    try:
        return _short(parse_media_type(json_format(value)).parameter("fhirversion"))
    except ValueError:
        raise NotAcceptable("This server speaks application/fhir+json.", reason="accept") from None


def _short(version: str | None) -> str | None:
    """``4.0`` for ``4.0.1``, too, which clients write although R4 has the short form."""
    return next((short for short, release in VERSIONS.items() if version == release), version)


def _known(version: str | None) -> str:
    if version is None:
        return DEFAULT_VERSION
    if version not in VERSIONS:
        raise NotAcceptable(f"This server speaks FHIR {' and '.join(VERSIONS)}.", reason="accept")
    return version


def wants_fresh(request: web.Request) -> bool:
    """Whether the client will not have what is remembered (``Cache-Control: no-cache``, RFC 9111 5.2.1.4)."""
    directives = {
        one.strip().lower()
        for line in request.headers.getall(hdrs.CACHE_CONTROL, ())
        for one in line.split(",")
    }
    return bool(directives & {"no-cache", "max-age=0"})


def is_strict(request: web.Request) -> bool:
    """Whether what would be ignored is to be refused (``Prefer: handling=strict``, RFC 7240 4.4.

    The first counts).
    """
    for line in request.headers.getall("Prefer", ()):
        for one in line.split(","):
            name, _, value = one.partition(";")[0].partition("=")
            if name.strip().lower() == "handling":
                return value.strip(' \t"').lower() == "strict"
    return False


def answer(
    request: web.Request,
    resource: Mapping[str, Any],
    *,
    version: str,
    identity: object = None,
    pretty: bool = False,
    gzip: bool = True,
) -> web.Response:
    """Return the answer in this FHIR version, or a 304 when the client has it (R4 http.html#cread).

    ``gzip``: it may be compressed. ``identity``: what the answer says without what differs each
    time (``None``: all of it).
    """
    shown = to_r5(resource) if version == "5.0" else resource
    written = orjson.dumps(resource if identity is None else identity, default=dict)
    tag = f'W/"{hashlib.blake2b(written + version.encode(), digest_size=12).hexdigest()}"'
    if request.method in ("GET", "HEAD") and {"*", tag.removeprefix("W/")} & _tags(request):
        return web.Response(status=304, headers={hdrs.ETAG: tag})
    body = orjson.dumps(shown, option=orjson.OPT_INDENT_2 if pretty else None, default=dict)
    content_type = (
        FHIR_JSON if version == DEFAULT_VERSION else f"{FHIR_JSON}; fhirVersion={version}"
    )
    headers: dict[str, str] = {hdrs.CONTENT_TYPE: content_type + "; charset=utf-8", hdrs.ETAG: tag}
    return in_pieces([body], headers, gzip=gzip and accepts_gzip(request))


def _tags(request: web.Request) -> set[str]:
    """The tags of If-None-Match, compared weakly, or ``*``, which is any (RFC 9110 13.1.2)."""
    lines = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if [line.strip() for line in lines] == ["*"]:
        return {"*"}
    return {found[1] for line in lines for found in _TAGS.finditer(line) if found[1]}
