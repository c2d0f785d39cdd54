"""The demo's explorer at ``GET /``: a SMART app in the browser, of static files without a build.

It uses standards alone: discovery at the EHR, FHIR, DICOMweb and a bearer token.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from urllib.parse import urlsplit

from aiohttp import web

CLIENT_ID = "sidecar-demo-page"
PREFIX = "/page"
"""Where its scripts and styles are."""
_TYPES = {".js": "text/javascript", ".css": "text/css"}


def add_page(app: web.Application, *, ehr_fhir_url: str) -> None:
    """Add the page at ``GET /`` and its files to the sidecar's public application."""
    html = files(__name__).joinpath("index.html").read_text("utf-8")
    html = html.replace("{ehr_fhir_url}", escape(ehr_fhir_url)).replace("{client_id}", CLIENT_ID)
    policy = {"Content-Security-Policy": _policy(ehr_fhir_url)}

    async def icon(request: web.Request) -> web.Response:
        return web.Response(status=204)

    app.router.add_get("/", _answer(html, "text/html", policy), name="page")
    app.router.add_get("/favicon.ico", icon, name="page-icon")
    for path, file in assets():
        content_type = _TYPES[path[path.rindex(".") :]]
        app.router.add_get(f"{PREFIX}/{path}", _answer(file.read_text("utf-8"), content_type))


def assets() -> Iterator[tuple[str, Traversable]]:
    """Yield the path and the file of each script and style sheet."""
    for folder in ("script", "style"):
        yield from _below(folder, files(__name__).joinpath(folder))


def _below(path: str, folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        name = f"{path}/{entry.name}"
        if entry.is_dir():
            yield from _below(name, entry)
        elif name.endswith(tuple(_TYPES)):
            yield name, entry


def _policy(ehr_fhir_url: str) -> str:
    """Return the Content-Security-Policy.

    Only our own scripts run. They may connect to this sidecar and the EHR alone, and never make
    HTML of text. Fetched images have blob: URLs.
    """
    ehr = urlsplit(ehr_fhir_url)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' "
        f"{ehr.scheme}://{ehr.netloc}; img-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _answer(
    text: str, content_type: str, headers: Mapping[str, str] | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type, headers=headers)

    return answer
