"""A sidecar between the fake EHR and the fake archive, in the test's own loop."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import aiohttp

from sidecar.audit.event import AuditSource
from sidecar.audit.sinks import NoSink
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.visible_studies_lookup import VisibleStudiesLookup
from sidecar.bootstrap.build import Sidecar, build
from sidecar.common.invalidation import Invalidation
from sidecar.fhir.imaging_study import Site
from sidecar.server.listener import listen
from sidecar.settings.adapter import ADAPTER
from sidecar.settings.document import Settings
from tests.fakes.archive import Servable
from tests.fakes.ehr import TOKEN, HasApp

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PUBLIC_URL = "http://sidecar.example.org"
SITE = Site("https://ehr.example.org/fhir")
NO_VIEWS = VisibleStudiesLookup(
    cast("Any", SimpleNamespace(forget_listed=lambda study, known_as: None)),
    SITE,
    rules=(),
    invalidation=Invalidation(),
)
"""For a authorizer whose permits are never limited."""
NO_AUDIT = AuditTrail(
    NoSink(), AuditSource("test", "https://ehr.example.org/fhir", PUBLIC_URL + "/fhir"), b"key"
)


async def fetch_whole(url: str, headers: dict[str, str]) -> tuple[int, bytes, bool]:
    """Return the status, the body, and whether it came whole."""
    got = b""
    async with aiohttp.ClientSession(headers=headers) as client, client.get(url) as response:
        try:
            async for chunk in response.content.iter_any():
                got += chunk
        except aiohttp.ClientError:
            return response.status, got, False
        return response.status, got, True


def site_settings(ehr_port: int, pacs_url: str, *changes: Mapping[str, dict[str, Any]]) -> Settings:
    """Return the settings of a sidecar between an EHR and an archive.

    ``changes`` override them by section, the later ones the earlier.
    """
    document: dict[str, Any] = {
        "server": {"public_url": PUBLIC_URL},
        "ehr": {"fhir_url": f"http://127.0.0.1:{ehr_port}/fhir"},
        "tokens": {"client": {"method": "none"}},
        "pacs": {"url": pacs_url},
        "limits": {
            "ehr_timeout_seconds": 60,
            "pacs_timeout_seconds": 60,
            # Longer than a test may take on a busy machine: what is cached stays so.
            "search_cache_seconds": 600,
        },
    }
    for sections in changes:
        for section, values in sections.items():
            document[section] = document.get(section, {}) | values
    return ADAPTER.validate_python(document)


@contextlib.asynccontextmanager
async def sidecar_between(
    ehr: HasApp, pacs: Servable, /, **changes: dict[str, Any]
) -> AsyncIterator[tuple[str, Sidecar]]:
    """Run a sidecar between the two; yields its URL. ``changes`` override settings by section."""
    async with (
        listen(ehr.app(), "127.0.0.1", 0) as ehr_port,
        pacs.serve() as root,
        build(site_settings(ehr_port, root, changes)) as sidecar,
        listen(sidecar.public, "127.0.0.1", 0) as port,
    ):
        yield f"http://127.0.0.1:{port}", sidecar
