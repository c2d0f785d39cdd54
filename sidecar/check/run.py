"""All checks in their order."""

import asyncio
from collections.abc import Sequence

from sidecar.bootstrap.build import Sidecar, build
from sidecar.check.access_token import access_token
from sidecar.check.audit import audit_repository, audit_sink
from sidecar.check.certificates import certificates
from sidecar.check.finding import skipped
from sidecar.check.journey import journey, without_studies
from sidecar.check.permissions import capabilities
from sidecar.check.tracing import collector
from sidecar.check.upstreams import EHR, NOT_NEEDED, PACS, Check, public_url
from sidecar.conformance.finding import Finding, State, has_failed
from sidecar.settings.audit import Audit
from sidecar.settings.document import Settings


async def check(settings: Settings, token: str | None) -> list[Finding]:
    """Look at everything that ``serve`` with these ``settings`` would need.

    With a patient's ``token`` go its way, too.

    EHR and PACS are asked at the same time; what builds on something that failed is left out.
    Raises ``ValueError`` like ``build``.
    """
    # Looking must not leave traces in a trail that is somebody else's file.
    quiet = settings.model_copy(update={"audit": Audit()})
    async with build(quiet) as sidecar:
        found = [await public_url(settings, sidecar), audit_sink(settings), capabilities(settings)]
        if settings.audit.repository.url is not None:
            found.insert(2, await audit_repository(settings))
        found += await certificates(settings)
        if settings.tracing.endpoint is not None:
            found.append(await collector(settings))
        for part in await asyncio.gather(
            _in_order(EHR, settings, sidecar), _in_order(PACS, settings, sidecar)
        ):
            found += part
        if token is None:
            return [*found, skipped("token", "no --token: nobody's images were looked at")]
        if has_failed(found):
            return [*found, skipped("token", "not tried: mend the above first")]
        found.append(await access_token(sidecar, token.strip()))
        if has_failed(found):
            return [*found, skipped("token", f"needs {found[-1].name}")]
        async with journey(sidecar, token.strip()) as way:
            return [
                *found,
                *without_studies(await way.findings(), rules=bool(settings.access.rules)),
            ]


async def _in_order(
    checks: Sequence[tuple[str, Check]], settings: Settings, sidecar: Sidecar
) -> list[Finding]:
    found: list[Finding] = []
    for name, one in checks:
        failures = (before.name for before in found if before.state is State.FAIL)
        broken = next((name for name in failures if name not in NOT_NEEDED), None)
        # A fixed introspection URL needs no discovery.
        if broken == "ehr.smart_configuration" and settings.tokens.introspection.url is not None:
            broken = None
        # What a refused query needs to be told is whether the dialect is right.
        if name == "pacs.dialect" and any("pacs_query_refused" in before.text for before in found):
            broken = None
        found.append(
            await one(settings, sidecar) if broken is None else skipped(name, f"needs {broken}")
        )
    return found
