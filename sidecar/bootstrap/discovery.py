"""The part of the composition that says what is needed of the EHR's smart-configuration, and when we are ready."""

from collections.abc import Awaitable, Callable

from sidecar.ehr.discovery import Discovery
from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import BackendServicesClient


def needed_of_discovery(settings: Settings) -> frozenset[str]:
    """Return the members of the EHR's smart-configuration that no setting replaces.

    Without them tokens cannot be checked, or patients not be read. What apps read there is not
    among them.
    """
    tokens, needed = settings.tokens, set()
    introspects = tokens.validation != "jwt"
    if introspects and tokens.introspection.url is None:
        needed.add("introspection_endpoint")
    if tokens.validation != "introspection" or tokens.introspection.signed:
        if tokens.jwt.jwks_url is None:
            needed.add("jwks_uri")
        if settings.ehr.issuer is None:
            needed.add("issuer")
    clients = [
        tokens.client if introspects else None,
        settings.patients.client if reads_fhir(settings) else None,
    ]
    if any(isinstance(one, BackendServicesClient) for one in clients):
        needed.add("token_endpoint")
    return frozenset(needed)


def reads_fhir(settings: Settings) -> bool:
    """Whether Patients or Groups are read at the EHR's FHIR server."""
    return settings.patients.mapping == "ehr" or any(
        one.groups for one in settings.access.clients.values()
    )


def ehr_probes(
    settings: Settings, discovery: Discovery
) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what ``/readyz`` asks of the EHR: its smart-configuration, or any answer where nothing of it is needed.

    Nothing is asked of an EHR whose FHIR server is never asked.
    """
    if needed_of_discovery(settings):
        return {"ehr": discovery.probe}
    return {"ehr": discovery.probe_reachable} if reads_fhir(settings) else {}
