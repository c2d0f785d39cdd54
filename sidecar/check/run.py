"""All checks of a configuration, in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from sidecar.bootstrap.build import Sidecar, build
from sidecar.check import archive, configuration, ehr, permissions
from sidecar.check.access_token import access_token
from sidecar.check.audit import audit_sink
from sidecar.check.audit_repository import audit_repository
from sidecar.check.catalog import catalog
from sidecar.check.certificates import certificates
from sidecar.check.character_sets import character_sets
from sidecar.check.journey import journey
from sidecar.check.names import FindingName
from sidecar.check.outcome import CheckOutcome, skipped
from sidecar.check.patient import patient
from sidecar.check.resources import resources
from sidecar.check.scheme import with_hints
from sidecar.check.shared_cache import shared_cache
from sidecar.check.tracing import collector
from sidecar.conformance.finding import Finding, State
from sidecar.settings.audit import Audit
from sidecar.settings.document import Settings
from sidecar.settings.fhir import CatalogSettings
from sidecar.settings.tokens import TokenCacheSettings

Check = Callable[[Settings, Sidecar], Awaitable[CheckOutcome]]

EHR: Mapping[FindingName, Check] = {
    "ehr.smart_configuration": ehr.discovery,
    "tokens.jwt": ehr.keys,
    "tokens.introspection": ehr.introspection,
    "patients.mapping": ehr.patients,
    "access.clients": permissions.clients,
    "access.external": permissions.external,
}
PACS: Mapping[FindingName, Check] = {
    "pacs.query": archive.query,
    "pacs.dialect": archive.dialect,
    "pacs.changes_url": archive.changes,
    "pacs.character_sets": character_sets,
    "pacs.studies": archive.studies,
    "pacs.counts": archive.counts,
    "pacs.resources": resources,
    "access.rules": permissions.rules,
}
NOT_NEEDED: frozenset[FindingName] = frozenset(
    {"pacs.changes_url", "pacs.counts", "pacs.resources"}
)
"""Checks whose failure does not skip the checks behind them."""


async def check(settings: Settings, token: str | None) -> list[Finding]:
    """Check everything that ``serve`` with these ``settings`` would need.

    With a patient's ``token``, make the requests of an app as well. EHR and PACS are checked
    concurrently. A check is skipped if a check that it needs has failed. Raises ``ValueError`` as
    ``build`` does.
    """
    # The checks must leave no traces in the audit trail, and use no cached answer about a token.
    tokens = replace(settings.tokens, cache=TokenCacheSettings())
    # A catalog's file that root makes locks the service out.
    fhir = replace(settings.fhir, catalog=CatalogSettings(store="memory"))
    server = replace(settings.server, workers=1)
    quiet = replace(settings, server=server, audit=Audit(), tokens=tokens, fhir=fhir)
    async with build(quiet) as sidecar:
        outcomes: dict[FindingName, CheckOutcome] = {
            "server.public_url": configuration.public_url(settings),
            "fhir.catalog": await catalog(settings),
            "audit.sink": audit_sink(settings),
        }
        if settings.audit.repository.url is not None:
            outcomes["audit.repository"] = await audit_repository(settings)
        outcomes["capabilities"] = configuration.capabilities(settings)
        outcomes |= await certificates(settings)
        if settings.tokens.cache.url is not None:
            outcomes["tokens.cache.url"] = await shared_cache(settings)
        if settings.tracing.endpoint is not None:
            outcomes["tracing.endpoint"] = await collector(settings)
        for part in await asyncio.gather(
            _in_order(EHR, settings, sidecar), _in_order(PACS, settings, sidecar)
        ):
            outcomes |= part
        outcomes = await with_hints(outcomes, settings)
        if token is None:
            outcomes["token"] = skipped("no --token: nobody's images were looked at")
        elif any(outcome.state is State.FAIL for outcome in outcomes.values()):
            outcomes["token"] = skipped("not tried: mend the above first")
        else:
            outcomes |= await _with_token(settings, sidecar, token.strip())
    return [Finding(name, *outcome) for name, outcome in outcomes.items()]


async def _with_token(
    settings: Settings, sidecar: Sidecar, token: str
) -> dict[FindingName, CheckOutcome]:
    validation = await access_token(settings, sidecar, token)
    outcomes: dict[FindingName, CheckOutcome] = {"token.validation": validation}
    if validation.state is State.FAIL:
        return {**outcomes, "token": skipped("needs token.validation")}
    outcomes["token.patient"] = await patient(settings, sidecar, token)
    return outcomes | await journey(sidecar, token, rules=bool(settings.access.rules))


async def _in_order(
    checks: Mapping[FindingName, Check], settings: Settings, sidecar: Sidecar
) -> dict[FindingName, CheckOutcome]:
    outcomes: dict[FindingName, CheckOutcome] = {}
    for name, function in checks.items():
        needed = (other for other in outcomes if other not in NOT_NEEDED)
        broken = next((other for other in needed if outcomes[other].state is State.FAIL), None)
        # A fixed introspection URL needs no discovery.
        if broken == "ehr.smart_configuration" and settings.tokens.introspection.url is not None:
            broken = None
        # A wrong dialect is a common cause of a refused query.
        refused = any("pacs_query_refused" in outcome.text for outcome in outcomes.values())
        if broken is None or (name == "pacs.dialect" and refused):
            outcomes[name] = await function(settings, sidecar)
        else:
            outcomes[name] = skipped(f"needs {broken}")
    return outcomes
