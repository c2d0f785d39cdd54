"""The demo's page at ``GET /``: a SMART app that logs in, lists studies and shows an image.

It uses standards alone: discovery at the EHR, FHIR, DICOMweb and a bearer token.
"""

from collections.abc import Awaitable, Callable
from html import escape
from importlib.resources import files
from urllib.parse import urlsplit

from aiohttp import web

CLIENT_ID = "sidecar-demo-page"
_TYPES = {"page.js": "text/javascript", "page.css": "text/css"}


def add_page(app: web.Application, *, ehr_fhir_url: str) -> None:
    """Add the page at ``GET /``, with its script and style, to the sidecar's public application."""
    ehr = urlsplit(ehr_fhir_url)
    html = (
        _read("page.html")
        .replace("{ehr_fhir_url}", escape(ehr_fhir_url))
        .replace("{client_id}", CLIENT_ID)
    )
    # Only our own script runs, and it may connect to this sidecar and the EHR alone. Fetched images
    # have blob: URLs.
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' "
        f"{ehr.scheme}://{ehr.netloc}; img-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )

    async def page(request: web.Request) -> web.Response:
        return web.Response(
            text=html, content_type="text/html", headers={"Content-Security-Policy": policy}
        )

    async def icon(request: web.Request) -> web.Response:
        return web.Response(status=204)

    app.router.add_get("/", page, name="page")
    app.router.add_get("/favicon.ico", icon, name="page-icon")
    for name, content_type in _TYPES.items():
        app.router.add_get(
            f"/{name}", _asset(_read(name), content_type), name=name.replace(".", "-")
        )


def _asset(text: str, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def asset(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type)

    return asset


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
