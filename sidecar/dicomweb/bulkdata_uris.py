"""BulkDataURIs of metadata (PS3.18 F.2.2), rewritten as our URLs.

Archives write them absolute, by path, or relative to the metadata, the instance, the series or the
study. Each form is read by the grammar of our own paths, must name a resource of the row's own
instance, and is written anew. A request for it is decided as for any other path.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import parse_qsl

from sidecar.access.facts import Part
from sidecar.common.errors import BadRequest, NotFound
from sidecar.dicom.uid import is_uid
from sidecar.dicomweb.media_types import may_be_part
from sidecar.dicomweb.paths import Kind, Query, Retrieval, parse

MAXIMUM_URL_LENGTH = 2_048
PIXELS = frozenset({"7FE00008", "7FE00009", "7FE00010"})
"""The attributes that hold an image."""

_KINDS = frozenset({Kind.BULKDATA, Kind.FRAMES, Kind.PIXELDATA, Kind.RENDERED, Kind.INSTANCE})
_WRITABLE = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*", re.ASCII)
_AUTHORITY = re.compile(r"(?:https?:)?//[^/]*", re.ASCII | re.IGNORECASE)
# Query parameters that select a piece of the value. Without them the URL means another value.
_SELECTING = frozenset(
    {"offset", "length", "range", "frame", "frames", "framenumber", "item", "part"}
)
_BELOW_STUDY = frozenset({"bulkdata", "pixeldata", "rendered"})


class Unusable(ValueError):
    """A BulkDataURI that cannot be rewritten. ``reason`` is one of ``REASONS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


REASONS = ("host", "instance", "malformed", "path", "query", "study", "unattributed")
"""Why a BulkDataURI is left out, as ``bulkdata_uris_dropped_total`` counts it (docs/api.md)."""


class BulkDataUris:
    """The BulkDataURIs of a metadata row below our ``root``.

    ``part`` is the instance that the row describes. Its ``instance``, or both ``instance`` and
    ``series``, are ``None`` where the row does not name them. ``dropped`` counts by reason the
    BulkDataURIs that are left out.
    """

    def __init__(self, root: str, part: Part, dropped: Counter[str] | None = None) -> None:
        self._root = root
        self._part = part
        self._dropped = Counter() if dropped is None else dropped

    def ours(self, name: str, uri: object) -> str | None:
        """Return our URL for the BulkDataURI of the attribute ``name`` (a tag).

        ``None``: the URI is to be left out, and has been counted.
        """
        try:
            path, _, query = _checked(uri).partition("?")
            resource = self._resource(path)
            if resource.kind is Kind.INSTANCE and name.upper() in PIXELS:
                # dcm4chee answers an instance's URL with the image alone when no DICOM is accepted.
                # Here the image has its own URL.
                resource = Retrieval(Kind.PIXELDATA, resource.part)
            return resource.url(self._root) + _our_query(query, resource.kind)
        except Unusable as unusable:
            self._dropped[unusable.reason] += 1
            return None

    def _resource(self, path: str) -> Retrieval:
        authority = _AUTHORITY.match(path)
        if authority is not None or path.startswith("/"):
            segments = path[authority.end() if authority else 0 :].split("/")
            resource = resource_among(_without_dots(segments))
            if not isinstance(resource, Retrieval):
                if _is_unattributed(segments):
                    raise Unusable("unattributed")
                raise Unusable("host" if authority else "path")
            self._check(resource)
            return resource
        if ":" in path.partition("/")[0]:
            raise Unusable("host")
        return self._relative(path.split("/"))

    def _relative(self, segments: Sequence[str]) -> Retrieval:
        """Resolve against the instance and each level above it: the archive meant one of them."""
        reason = "path"
        levels = zip(("studies", "series", "instances"), self._part, strict=True)
        base = [segment for level, uid in levels if uid is not None for segment in (level, uid)]
        for depth in range(len(base), -1, -1):
            try:
                resolved = _without_dots([*base[:depth], *segments])
                resource = resource_among(resolved)
                if isinstance(resource, Retrieval):
                    self._check(resource)
                    return resource
                if depth == len(base) and _is_unattributed(resolved):
                    reason = "unattributed"
            except Unusable as unusable:
                reason = reason if unusable.reason == "path" else unusable.reason
        raise Unusable(reason)

    def _check(self, resource: Retrieval) -> None:
        """Raise ``Unusable`` unless the resource is a value of the row's own instance."""
        own, part = self._part, resource.part
        if part.study != own.study:
            raise Unusable("study")
        if resource.kind not in _KINDS:
            raise Unusable("path")
        if part.series is None or part.instance is None:
            raise Unusable("unattributed")
        if own.series not in (None, part.series) or own.instance not in (None, part.instance):
            raise Unusable("instance")


def resource_among(segments: Sequence[str]) -> Retrieval | Query | None:
    """Return the resource that a URL's path segments end with, from ``studies/<UID>`` on."""
    # "bulk" is Orthanc's name of that segment. The PACS client writes it again.
    names = ["bulkdata" if segment == "bulk" else segment for segment in segments]
    pairs = enumerate(pairwise(names))
    begin = next((at for at, (name, uid) in pairs if name == "studies" and is_uid(uid)), None)
    if begin is None:
        return None
    try:
        return parse(_in_order(names[begin:]))
    except (NotFound, BadRequest):
        return None


def _is_unattributed(segments: Sequence[str]) -> bool:
    """Return whether a path names bulk data of a study or series, without the instance.

    static-dicomweb names them by a hash.
    """
    begin = segments.index("studies") if "studies" in segments else len(segments)
    return "bulkdata" in segments[begin + 2 : begin + 5 : 2]


def _in_order(segments: list[str]) -> list[str]:
    """Return the path of an instance's value with the instance before the value.

    dcm4chee writes the value first in the parts of a study's bulk data, pixel data and rendered
    images. ``studies/1.2/bulkdata/series/1.3/instances/1.4`` ->
    ``studies/1.2/series/1.3/instances/1.4/bulkdata``.
    """
    for at in (2, 4):
        if (
            len(segments) > at + 1
            and segments[at] in _BELOW_STUDY
            and segments[at + 1] in ("series", "instances")
        ):
            kind, rest = segments[at], segments[at + 1 :]
            instance = rest[: 4 if rest[0] == "series" else 2]
            tail = rest[len(instance) :]
            if tail[:1] == [kind] or tail[:1] == ["frames"]:
                return [*segments[:at], *instance, *tail]
            return [*segments[:at], *instance, kind, *tail]
    return segments


def _checked(uri: object) -> str:
    if not isinstance(uri, str) or not 0 < len(uri) <= MAXIMUM_URL_LENGTH:
        raise Unusable("malformed")
    if not _WRITABLE.fullmatch(uri):
        raise Unusable("malformed")
    return uri


def _without_dots(segments: Sequence[str]) -> list[str]:
    """Return the segments with ``.`` and ``..`` resolved (RFC 3986 5.2.4), without a last slash."""
    resolved: list[str] = []
    for segment in segments:
        if segment == "..":
            if not resolved:
                raise Unusable("path")
            resolved.pop()
        elif segment != ".":
            resolved.append(segment)
    return resolved[:-1] if resolved and not resolved[-1] else resolved


def _our_query(query: str, kind: Kind) -> str:
    """Return the query's ``accept`` (PS3.18 8.3.3.1), where we serve that media type."""
    accepted = ""
    try:
        parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Unusable("query") from None
    for name, value in parameters:
        if name.lower() in _SELECTING:
            raise Unusable("query")
        if name == "accept" and may_be_part(value.lower(), kind):
            accepted = "?accept=" + value.lower()
    return accepted
