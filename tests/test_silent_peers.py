"""Every peer that says nothing, whenever it stops: whoever waits for it has an end, and the next
one asks anew.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sidecar.access.facts import Part, PatientIdentifier
from sidecar.bootstrap.build import Sidecar, build
from sidecar.common.errors import GatewayTimeout, Problem, Unavailable
from sidecar.dicomweb.paths import Kind, Query, Retrieval
from sidecar.settings.adapter import ADAPTER
from sidecar.settings.document import Settings
from tests.fakes.stream_server import stream_server
from tests.permits import search_permit, study_permit
from tests.silent_peers import full_listener
from tests.waiting import WAIT_SECONDS

SECONDS = 0.3
SOMEBODY = frozenset({PatientIdentifier("p1")})
STUDIES = Query("studies")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"

# How far the peer goes before it falls silent; None: not even its kernel answers.
SILENT_AFTER: dict[str, bytes | None] = {
    "nothing": None,
    "the connection": b"",
    "half a head": HEAD[:30],
    "a head": HEAD,
    "half a body": HEAD + b"[",
}


async def retrieval(sidecar: Sidecar) -> None:
    part = Part("1.2")
    permit = study_permit("p1", part, known_as=SOMEBODY)
    async with await sidecar.retrievals.open(
        permit, Retrieval(Kind.STUDY, part), accept="*/*"
    ) as upstream:
        async with asyncio.timeout(upstream.idle_seconds):  # As web.stream does.
            while await upstream.read():
                pass


def jwks(sidecar: Sidecar) -> Awaitable[object]:
    assert sidecar.tokens.jwks is not None
    return sidecar.tokens.jwks.probe()


def introspection(sidecar: Sidecar) -> Awaitable[object]:
    assert sidecar.tokens.introspection is not None
    return sidecar.tokens.introspection.introspect("token")


def policy(sidecar: Sidecar) -> Awaitable[object]:
    assert sidecar.external is not None
    return sidecar.external.probe()


# Who waits for a peer.
WAITS: dict[str, Callable[[Sidecar], Awaitable[object]]] = {
    "discovery": lambda sidecar: sidecar.discovery.configuration(),
    "JWKS": jwks,
    "introspection": introspection,
    "Patient": lambda sidecar: sidecar.patients.identifiers("1"),
    "policy": policy,
    "PACS ping": lambda sidecar: sidecar.pacs.ping(),
    "query": lambda sidecar: sidecar.pacs.search(
        STUDIES, (("PatientID", "p1"),), permit=search_permit("p1", SOMEBODY)
    ),
    "fresh query": lambda sidecar: sidecar.pacs.search(
        STUDIES, (), permit=search_permit("p1", SOMEBODY), fresh=True
    ),
    "retrieval": retrieval,
}


@contextlib.asynccontextmanager
async def silent(after: bytes | None) -> AsyncIterator[str]:
    """A peer that says no more than this; yields its URL."""
    if after is None:
        with full_listener() as port:
            yield f"http://127.0.0.1:{port}"
        return

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(after)
            await reader.read()
            await reader.read()
        writer.close()

    async with stream_server(connection) as port:
        yield f"http://127.0.0.1:{port}"


def settings(url: str, patience: float | None) -> Settings:
    document: dict[str, Any] = {
        "server": {"public_url": "http://sidecar.example.org"},
        "ehr": {"fhir_url": f"{url}/fhir", "issuer": url},
        "tokens": {
            "client": {"method": "none"},
            "validation": "jwt_then_introspection",
            "audience": ["us"],
            "introspection": {"url": url},
            "jwt": {"jwks_url": url},
        },
        "patients": {"mapping": "ehr", "identifiers": [{"system": "urn:x"}]},
        "access": {"external": {"url": url}},
        "pacs": {"url": url},
        "limits": {
            "defer_after_seconds": patience,
            "ehr_timeout_seconds": SECONDS,
            "external_timeout_seconds": SECONDS,
            "pacs_timeout_seconds": SECONDS,
        },
    }
    return ADAPTER.validate_python(document)


@pytest.mark.parametrize("patience", [None, SECONDS])
@pytest.mark.parametrize("after", SILENT_AFTER)
async def test_every_wait_has_its_end(after: str, patience: float | None) -> None:
    """Twice each, and all at once: nobody is kept by what was lost before."""
    async with silent(SILENT_AFTER[after]) as url, build(settings(url, patience)) as sidecar:
        for _ in range(2):
            async with asyncio.timeout(WAIT_SECONDS):
                waits = (_ended(wait(sidecar)) for wait in WAITS.values())
                ends = dict(zip(WAITS, await asyncio.gather(*waits), strict=True))
            assert set(ends.pop("retrieval").mro()) & {Problem, TimeoutError}
            assert all(issubclass(one, Unavailable | GatewayTimeout) for one in ends.values()), ends


async def _ended(wait: Awaitable[object]) -> type[BaseException]:
    """How the wait ended: with an answer none does."""
    with pytest.raises((Problem, TimeoutError)) as ended:
        await wait
    return ended.type
