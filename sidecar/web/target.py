"""Parse the request target strictly.

Each path has one spelling, so that no two parsers can differ over it.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from sidecar.common.errors import BadRequest, NotFound, Problem

MAXIMUM_LENGTH = 8_000

# The characters of our own paths. "%" only as %24 for "$"; no ";", no backslash, no control,
# nothing beyond ASCII.
# Dot segments and empty segments (but for a whole path of "/") are nobody's resource here.
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))(?:[A-Za-z0-9._~,$-]++|%24)++)++|/", re.ASCII)
_ABSOLUTE = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[A-Za-z0-9.\[\]:-]+)(?=/|$)", re.ASCII | re.IGNORECASE
)
_QUERY = re.compile(r"[!-~]*", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class TargetTooLong(Problem):
    """414."""

    status = 414
    code = "too-long"


class Target(NamedTuple):
    """``segments`` of the path (``%24`` read as ``$``), ``query`` as sent."""

    segments: tuple[str, ...]
    query: str


def authority_of(url: str) -> str:
    """Return the host and port of a URL in lower case, without the scheme's own port."""
    match = _ABSOLUTE.match(url)
    if match is None:
        return ""
    default = ":80" if match["scheme"].lower() == "http" else ":443"
    return match["authority"].lower().removesuffix(default)


def base_path_of(url: str) -> str:
    """Return the path of our own URL, without a slash at its end: empty at the root of a host."""
    return urlsplit(url).path.rstrip("/")


def without_base_path(raw: str, base_path: str) -> str:
    """Return a target as if ``base_path`` were the root of the server.

    A reverse proxy may pass our base path on or strip it. So a target that is not below it stays as
    it is. ``base_path`` is compared as it is written: nothing is decoded.
    """
    absolute = _ABSOLUTE.match(raw)
    begin = 0 if absolute is None else absolute.end()
    if not raw.startswith(base_path + "/", begin):
        return raw
    return raw[:begin] + raw[begin + len(base_path) :]


def parse_target(raw: str, own: str = "") -> Target:
    """Return the target of a request line.

    ``own``: our authority. A target in absolute form with another one is refused (RFC 9112 3.2.2).
    Raises ``NotFound`` or ``BadRequest`` for any unusual spelling.
    """
    if len(raw) > MAXIMUM_LENGTH:
        raise TargetTooLong("The URL is too long.", reason="target_too_long")
    if not raw.startswith("/"):
        absolute = _ABSOLUTE.match(raw)
        if (
            not own
            or absolute is None
            or not raw.startswith("/", absolute.end())
            or authority_of(raw) != own
        ):
            raise BadRequest(
                "The request target must be a path, or a URL of this server.", reason="bad_target"
            )
        raw = raw[absolute.end() :]
    path, _, query = raw.partition("?")
    if not _PATH.fullmatch(path):
        raise NotFound("There is no such resource.", reason="unknown_path")
    if not _QUERY.fullmatch(query) or "#" in query:
        raise BadRequest(
            "The query has characters that must be percent-encoded.", reason="bad_query"
        )
    return Target(tuple(path[1:].replace("%24", "$").split("/")), query)


def form_parameters(text: str) -> list[tuple[str, str]]:
    """Decode ``a=b&c=d``; nothing between two ``&`` is no pair.

    Raises ``BadRequest`` for malformed escapes, other character sets, too many pairs.
    """
    text = "&".join(filter(None, text.split("&")))
    if not text:
        return []
    if _BAD_ESCAPE.search(text):
        raise BadRequest("The query has a malformed percent escape.", reason="bad_query")
    try:
        return parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=200
        )
    except ValueError:
        raise BadRequest("The query is not form-encoded UTF-8.", reason="bad_query") from None
