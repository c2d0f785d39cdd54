"""Checks of the EHR that need no patient's token: discovery, keys, introspection, Patient."""

import secrets

from sidecar.bootstrap.build import Sidecar
from sidecar.bootstrap.discovery import needed_of_discovery
from sidecar.check.outcome import CheckOutcome, failure, failure_of, hint_of, ok, warning
from sidecar.common.errors import BadGateway, Forbidden, Problem
from sidecar.settings.document import Settings
from sidecar.tokens.rejection import TokenRejected

_ISSUER_UNKNOWN = (
    " Nothing names the issuer, so iss in introspection answers is not compared: set ehr.issuer."
)
_DISCOVERY_HINTS = {
    "discovery_insecure_endpoint": "ehr.fhir_url is https, but its smart-configuration names an "
    "endpoint with http, to which tokens would travel unencrypted. Have the EHR name https: behind "
    "a proxy it must know its public URL."
}
_BACKEND_SERVICES = {
    "grant_types_supported": "client_credentials",
    "token_endpoint_auth_methods_supported": "private_key_jwt",
}


async def discovery(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check the EHR's ``.well-known/smart-configuration``."""
    url, needed = settings.ehr.fhir_url, needed_of_discovery(settings)
    try:
        await sidecar.discovery.probe()
        configuration = await sidecar.discovery.configuration()
    except Problem as problem:
        if not needed:
            hint = hint_of(problem, "Not needed here; but apps find their login there (SIA-2).")
            if sidecar.discovery.is_absent and settings.ehr.issuer is None:
                hint += _ISSUER_UNKNOWN
            return warning(problem.for_operators(), hint)
        hint = (
            f"Is ehr.fhir_url right ({url}), and reachable from here? ehr.ca_file trusted?"
            if problem.reason == "discovery_unreachable"
            else f"It does not answer {url}/.well-known/smart-configuration as an EHR does: "
            "is ehr.fhir_url its FHIR base?"
        )
        return failure_of(problem, _DISCOVERY_HINTS.get(problem.reason, hint))
    if configuration.introspection_endpoint is None and "introspection_endpoint" in needed:
        return failure(f"{url} names no introspection_endpoint", "Set tokens.introspection.url.")
    unnamed = configuration.issuer is None and settings.ehr.issuer is None
    if unnamed and "issuer" in needed:
        return failure(
            f"{url} names no issuer", "Tokens cannot be verified without it: set ehr.issuer."
        )
    missing = [
        name
        for name in ("authorization_endpoint", "token_endpoint")
        if getattr(configuration, name) is None
    ]
    if missing:
        hint = "Apps find their login there (SIA-2)." + (_ISSUER_UNKNOWN if unnamed else "")
        return warning(f"{url} names no {' and no '.join(missing)}", hint)
    if unnamed:
        return warning(f"{url} names no issuer", _ISSUER_UNKNOWN.strip())
    if settings.ehr.issuer and configuration.issuer and configuration.issuer != settings.ehr.issuer:
        return warning(
            f"its issuer is {configuration.issuer}",
            f"ehr.issuer is {settings.ehr.issuer}: tokens of another issuer are refused.",
        )
    published = configuration.authorization_metadata
    unsaid = [
        f"{value} in {name}"
        for name, value in _BACKEND_SERVICES.items()
        if settings.access.backend_services and value not in published.get(name, ())
    ]
    if unsaid:
        return warning(
            f"{url} has no {' and no '.join(unsaid)}",
            "Backend Services clients look there (SIA-2): see config ehr-snippet.",
        )
    return ok(url)


async def keys(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that there are keys that verify tokens or introspection answers."""
    if sidecar.tokens.jwks is None:
        return ok("not used: tokens.validation is introspection")
    try:
        count = await sidecar.tokens.jwks.probe()
    except Problem as problem:
        hint = "Does the EHR's smart-configuration name jwks_uri? Else set tokens.jwt.jwks_url."
        return failure_of(problem, hint)
    if count == 0:
        return failure(
            "the JWKS has no key that verifies signatures",
            "Is tokens.jwt.jwks_url the public keys?",
        )
    return ok(f"{count} public key{'s' if count > 1 else ''}")


async def introspection(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that we may introspect, and that a token that nobody issued is inactive."""
    if sidecar.tokens.introspection is None or settings.tokens.client is None:
        return ok("not used: tokens.validation is jwt, so a revoked token works until it expires")
    made_up = secrets.token_urlsafe(32)
    try:
        is_active = await sidecar.tokens.introspection.introspect(made_up) is not None
    except TokenRejected:
        is_active = True
    except BadGateway as problem:
        return failure_of(
            problem,
            "The authorization server refuses us: check tokens.client (id, secret, method), and "
            "that this client may introspect.",
        )
    except Problem as problem:
        return failure_of(
            problem,
            "The endpoint must answer a POST with JSON, active: false for an unknown token "
            "(RFC 7662 2.2); set tokens.introspection.url if it is elsewhere.",
        )
    if is_active:
        return failure(
            "a made-up token is active",
            "Whatever answers there is no introspection endpoint. Do not serve.",
        )
    return ok(f"a made-up token is inactive; we are accepted by {settings.tokens.client.method}")


async def patients(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that our own access can read Patients, with ``mapping: ehr``.

    Reads by Backend Services clients need a search, too.
    """
    if settings.patients.mapping == "direct":
        return ok("direct: the FHIR Patient.id is the PatientID at the PACS")
    try:
        await sidecar.patients.identifiers("check-" + secrets.token_hex(8))
    except Forbidden as problem:
        return failure_of(
            problem, "The EHR answers a made-up Patient with another one's record. Do not serve."
        )
    except Problem as problem:
        return failure_of(
            problem,
            "We cannot read Patient at the EHR: check patients.client, its scope, and its key "
            "(the EHR must know the public half).",
        )
    if settings.access.backend_services:
        try:
            await sidecar.patients.known_as(frozenset())
        except Problem as problem:
            return warning(
                "Patients cannot be searched by identifier: " + problem.for_operators(),
                "Backend Services clients cannot read ImagingStudy/<id>, but search: does "
                "patients.client.scope cover it (system/Patient.rs)?",
            )
    return ok(
        f"ehr: a made-up Patient is not there; we are accepted by {settings.patients.client.method}"
    )
