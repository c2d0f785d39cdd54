"""The part of the composition that is about permissions: ``access`` in the settings -> rules, clients, policy."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TypeVar

import aiohttp

from sidecar.access.facts import Conditions, Effect, Policy, Rule
from sidecar.access.permits import Operation
from sidecar.authorization.capability_seal import Sealer, SealingKey
from sidecar.authorization.capability_urls import CapabilityUrls
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.study_facts import SERIES_KEYWORDS, STUDY_KEYWORDS
from sidecar.bootstrap.tokens import patient_credentials
from sidecar.common.invalidation import Invalidation
from sidecar.ehr.discovery import Discovery
from sidecar.fhir.capability_statement import OfferedFeatures
from sidecar.patients.backend_clients import BackendClients, ClientEntry, Groups
from sidecar.settings.access import ClientSettings, RuleSettings
from sidecar.settings.capabilities import keys_in
from sidecar.settings.document import Settings
from sidecar.telemetry.metrics import Metrics

Keyword = TypeVar("Keyword", bound=str)


def policy(settings: Settings, rules: tuple[Rule, ...]) -> Policy:
    """Return what is switched on."""
    access = settings.access
    return Policy(
        app_launch=access.app_launch,
        user_level=access.user_level,
        backend_services=access.backend_services,
        rules=rules,
        external=settings.access.external.url is not None,
    )


def offered(settings: Settings) -> OfferedFeatures:
    """Return what discovery says of us."""
    return OfferedFeatures(
        app_launch=settings.access.app_launch, backend_services=settings.access.backend_services
    )


def external_policy(
    settings: Settings,
    session: aiohttp.ClientSession,
    metrics: Metrics,
    invalidation: Invalidation,
    stack: AsyncExitStack,
) -> ExternalPolicy | None:
    """Return ``access.external``, ``None`` when it is off; closed with ``stack``."""
    external = settings.access.external
    if external.url is None:
        return None
    policy = ExternalPolicy(
        session,
        external.url,
        timeout_seconds=external.timeout_seconds,
        cache_seconds=external.cache_seconds,
        token=external.token(),
        observe=metrics.observe_external_policy,
        invalidation=invalidation,
    )
    stack.push_async_callback(policy.close)
    return policy


def capabilities(settings: Settings) -> CapabilityUrls | None:
    """Return what issues capability URLs, ``None`` when they are off."""
    section = settings.capabilities
    if section.keys_file is None:
        return None
    keys = [SealingKey(key_id, secret) for key_id, secret in keys_in(section.keys_file)]
    return CapabilityUrls(
        Sealer(keys, settings.server.public_url),
        settings.server.public_url,
        operations=frozenset(map(Operation, section.operations)),
        lifetime_seconds=section.lifetime_seconds,
    )


def study_rules(settings: Settings) -> tuple[Rule, ...]:
    """Return ``access.rules``."""
    return tuple(_rule(one) for one in settings.access.rules)


def _rule(rule: RuleSettings) -> Rule:
    return Rule(
        rule.name,
        Effect(rule.effect),
        study=_conditions(rule.study),
        series=_conditions(rule.series),
        hours=rule.hours or 0,
        unknown_applies=rule.unknown == "applies",
    )


def _conditions(configured: Mapping[Keyword, list[str]] | None) -> Conditions:
    return {keyword: tuple(patterns) for keyword, patterns in (configured or {}).items()}


def named_of_studies(settings: Settings) -> list[str]:
    """The DICOM keywords that rules and clients name of studies, and all for an external policy: they are asked for."""
    if settings.access.external.url is not None:
        return list(STUDY_KEYWORDS)
    conditions = [one.study for one in settings.access.rules] + [
        one.studies for one in settings.access.clients.values()
    ]
    return sorted({keyword for one in conditions for keyword in one or ()})


def named_of_series(settings: Settings) -> list[str]:
    """The DICOM keywords that rules name of series, and all for an external policy."""
    if settings.access.external.url is not None:
        return list(SERIES_KEYWORDS)
    return sorted({keyword for one in settings.access.rules for keyword in one.series or ()})


def backend_clients(
    settings: Settings,
    session: aiohttp.ClientSession,
    discovery: Discovery,
    invalidation: Invalidation,
    stack: AsyncExitStack,
) -> BackendClients:
    """Return ``access.clients``; closed with ``stack``."""
    groups = Groups(
        session,
        settings.ehr.fhir_url,
        patient_credentials(settings, session, discovery),
        timeout_seconds=settings.ehr.timeout_seconds,
        cache_ttl_seconds=settings.patients.cache_ttl_seconds,
        invalidation=invalidation,
    )
    stack.push_async_callback(groups.close)
    return BackendClients(
        {name: _entry(one) for name, one in settings.access.clients.items()}, groups
    )


def _entry(client: ClientSettings) -> ClientEntry:
    return ClientEntry(
        patients=frozenset(client.patients),
        patients_file=client.patients_file,
        groups=tuple(client.groups),
        studies=_conditions(client.studies),
        rules=client.rules,
    )
