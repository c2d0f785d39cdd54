"""Runs ``check --conformance`` against a server of a test, and changes the server's answers."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from sidecar.conformance.client import Limits
from sidecar.conformance.finding import Finding, State, as_json, table
from sidecar.conformance.levels import RequirementLevel
from sidecar.conformance.report import html, junit
from sidecar.conformance.run import ServerUnderTest, conformance
from sidecar.server.listener import listen
from tests.conformance.small_server import (
    NAME,
    PATIENT,
    PATIENT_ID,
    STUDIES,
    TOKEN,
    Change,
    body_of,
)
from tests.waiting import WAIT_SECONDS

LIMITS = Limits(
    seconds=60, retrieval_seconds=60, retrieval_bytes=2**20, repeat_seconds=0.01, repeats=2
)


async def found(
    app: web.Application, token: str | None = TOKEN, limits: Limits = LIMITS, **further: Any
) -> list[Finding]:
    """What is found of it; whatever it is, the token and the patient are not named, and it does not
    take long.
    """
    async with listen(app, "127.0.0.1", 0) as port:
        return await looked(f"http://127.0.0.1:{port}/fhir", token, limits, **further)


async def looked(
    base: str, token: str | None = TOKEN, limits: Limits = LIMITS, **further: Any
) -> list[Finding]:
    server = ServerUnderTest(base, token, **further)
    async with asyncio.timeout(WAIT_SECONDS):
        findings = await conformance(server, limits=limits)
    said = table(findings) + as_json(findings)
    said += html("x", server.guide, findings, datetime.now(UTC), "a kit")
    said += junit("x", server.guide, findings, "a kit")
    for secret in (*server.tokens, TOKEN, PATIENT, PATIENT_ID, NAME, *STUDIES):
        assert secret not in said
    assert "cannot be read" not in said, said
    return findings


def problems(findings: list[Finding]) -> dict[str, str]:
    """What was checked and is not kept, with its level. A broken SHALL alone is a failure."""
    broken = [finding for finding in findings if finding.state in (State.FAIL, State.WARN)]
    for finding in broken:
        assert finding.level is not None
        assert (finding.state is State.FAIL) is (finding.level is RequirementLevel.SHALL)
    return {checked(finding): str(finding.level) for finding in broken}


def number(finding: Finding) -> int:
    """The requirement's number: a finding is named ``SIA-<number> <what was checked>``."""
    return int(finding.name.partition(" ")[0].removeprefix("SIA-"))


def checked(finding: Finding) -> str:
    return finding.name.partition(" ")[2]


def on(
    test: Callable[[web.Request], bool], change: Callable[[web.Request, web.Response], web.Response]
) -> Change:
    """Change the answers to some requests."""

    async def changed(request: web.Request, response: web.Response) -> web.StreamResponse:
        return change(request, response) if test(request) else response

    return changed


def bundles(change: Callable[[dict[str, Any], web.Request], Any]) -> Change:
    """Change each Bundle."""

    def changed(request: web.Request, response: web.Response) -> web.Response:
        if response.status != 200:
            return response
        bundle = body_of(response)
        change(bundle, request)
        response.body = json.dumps(bundle).encode()
        return response

    return on(
        lambda request: request.path in ("/fhir/ImagingStudy", "/fhir/ImagingStudy/_search"),
        changed,
    )


def with_token(request: web.Request) -> bool:
    return request.headers.get("Authorization") == f"Bearer {TOKEN}"
