"""Build what decides about permissions, from ``access`` and ``capabilities`` in the settings."""

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.access.facts import Conditions, Effect, Policy, Rule
from sidecar.access.permits import Operation
from sidecar.authorization.capability_urls import CapabilityUrls, Sealer, SealingKey
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.study_facts import SERIES_KEYWORDS, STUDY_KEYWORDS
from sidecar.bootstrap.context import BuildContext
from sidecar.bootstrap.tokens import ehr_client
from sidecar.patients.backend_clients import BackendClients, ClientEntry, Groups
from sidecar.settings.capabilities import keys_in
from sidecar.settings.document import Settings

POLICY_CONNECTIONS = 32
"""Limit of connections to the external policy."""


def access_policy(settings: Settings) -> Policy:
    """Return what ``access`` switches on, with its rules."""
    access = settings.access
    rules = tuple(
        Rule(
            rule.name,
            Effect(rule.effect),
            study=_conditions(rule.study),
            series=_conditions(rule.series),
            hours=rule.hours or 0,
            unknown_applies=rule.unknown == "applies",
        )
        for rule in access.rules
    )
    return Policy(
        app_launch=access.app_launch,
        user_level=access.user_level,
        backend_services=access.backend_services,
        rules=rules,
        external=access.external.url is not None,
    )


async def external_policy(context: BuildContext) -> ExternalPolicy | None:
    """Return the client of ``access.external``, or ``None`` when it is off."""
    external = context.settings.access.external
    if external.url is None:
        return None
    return context.closing(
        ExternalPolicy(
            await context.session(external.ca_file, POLICY_CONNECTIONS),
            external.url,
            timeout_seconds=context.settings.limits.external_timeout_seconds,
            cache_seconds=context.settings.limits.external_cache_seconds,
            token=external.token(),
            observe=context.metrics.observe_external_policy,
            invalidation=context.invalidation,
        )
    )


def capability_urls(settings: Settings) -> CapabilityUrls | None:
    """Return what issues and opens capability URLs, or ``None`` when they are off."""
    section, public_url = settings.capabilities, settings.server.public_url
    if section.keys_file is None:
        return None
    keys = [SealingKey(key_id, secret) for key_id, secret in keys_in(section.keys_file)]
    return CapabilityUrls(
        Sealer(keys, public_url),
        public_url,
        operations=frozenset(map(Operation, section.operations)),
        lifetime_seconds=settings.limits.capability_lifetime_seconds,
    )


def _conditions(configured: Mapping[Any, tuple[str, ...]] | None) -> Conditions:
    return configured or {}


def named_keywords(settings: Settings) -> tuple[set[str], set[str]]:
    """Return the DICOM keywords of studies, and those of series, that rules and clients name."""
    rules, clients = settings.access.rules, settings.access.clients.values()
    of_studies = [rule.study for rule in rules] + [client.studies for client in clients]
    return _keywords(of_studies), _keywords([rule.series for rule in rules])


def needed_keywords(settings: Settings) -> tuple[list[str], list[str]]:
    """Return those that are asked of the archive: all that there are for an external policy."""
    if settings.access.external.url is not None:
        return list(STUDY_KEYWORDS), list(SERIES_KEYWORDS)
    of_studies, of_series = named_keywords(settings)
    return sorted(of_studies), sorted(of_series)


def _keywords(conditions: Iterable[Mapping[Any, object] | None]) -> set[str]:
    return {keyword for condition in conditions for keyword in condition or ()}


def backend_clients(context: BuildContext) -> BackendClients:
    """Return the clients of ``access.clients``."""
    settings = context.settings
    groups = Groups(
        ehr_client(context),
        cache_ttl_seconds=settings.limits.patient_cache_seconds,
        invalidation=context.invalidation,
    )
    entries = {
        client_id: ClientEntry(
            patients=frozenset(client.patients),
            patients_file=client.patients_file,
            groups=tuple(client.groups),
            studies=_conditions(client.studies),
            rules=client.rules,
        )
        for client_id, client in settings.access.clients.items()
    }
    return BackendClients(entries, context.closing(groups))
