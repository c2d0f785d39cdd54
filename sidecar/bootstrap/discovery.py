"""What is needed of the EHR: members of its smart-configuration, and probes for ``/readyz``."""

from collections.abc import Awaitable, Callable

from sidecar.ehr.discovery import Discovery
from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import BackendServicesClient


def needed_of_discovery(settings: Settings) -> frozenset[str]:
    """Return the members of the EHR's smart-configuration that no setting replaces.

    Without them tokens cannot be validated, or Patients cannot be read. The endpoints that only
    apps use are not among them.
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
    clients = (
        tokens.client if introspects else None,
        settings.patients.client if reads_fhir(settings) else None,
    )
    if any(isinstance(client, BackendServicesClient) for client in clients):
        needed.add("token_endpoint")
    return frozenset(needed)


def reads_fhir(settings: Settings) -> bool:
    """Return whether Patients or Groups are read at the EHR's FHIR server."""
    return settings.patients.mapping == "ehr" or any(
        client.groups for client in settings.access.clients.values()
    )


def ehr_probes(
    settings: Settings, discovery: Discovery
) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the probe of the EHR for ``/readyz``, if there is one.

    It reads the smart-configuration if that is needed. Else any answer will do, and there is no
    probe for an EHR whose FHIR server is not used.
    """
    if needed_of_discovery(settings):
        return {"ehr": discovery.probe}
    return {"ehr": discovery.probe_reachable} if reads_fhir(settings) else {}
