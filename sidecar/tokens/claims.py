"""Read introspection answers (RFC 7662 2.2, SMART App Launch 2.2 "Token Introspection"; SIA-10)."""

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sidecar.access.facts import Token, is_fhir_id
from sidecar.access.reasons import Reason
from sidecar.access.scopes import RESOURCE, Grant, parse_scopes
from sidecar.common.errors import BadGateway
from sidecar.tokens.rejection import TokenRejected


class WrongShape(ValueError):
    """The answer breaks RFC 7662 or SMART at the member ``field``."""

    def __init__(self, field: str) -> None:
        super().__init__(f"introspection answer: {field}")
        self.field = field

    def problem(self, reason: str, logger: logging.Logger, text: str) -> BadGateway:
        """Log ``text`` with the member, and return the app's answer (502)."""
        logger.error(text, extra={"reason": reason, "field": self.field})
        return BadGateway(
            "What the hospital's authorization server says of this access token "
            "cannot be used here. The operators of this server have been told.",
            reason=reason,
        ).because(self.field)


_ACCESS_TOKEN_TYPES = frozenset(
    {
        "bearer",  # token_type of RFC 6749 and RFC 7662; typ in Keycloak's claims
        "access_token",  # token_use of Ory Hydra
        "access",  # token_use of Amazon Cognito
        "urn:ietf:params:oauth:token-type:access_token",  # token_type of RFC 8693
        "at+jwt",  # typ of RFC 9068
        "application/at+jwt",
    }
)
"""Types of access tokens that are sent as bearer tokens, in lower case.

ID, refresh, offline and logout tokens have other values, and unknown ones are refused. A DPoP-bound
token is not among them: its proof would have to be checked (RFC 9449).
"""
_TYPE_CLAIMS = ("token_type", "token_use", "typ")
_MAXIMUM_NAME = 512
CLOCKS_DIFFER_SECONDS = 10
"""Longest time in seconds by which the authorization server's clock may be ahead of ours."""
MAXIMUM_CONSTRAINTS = 100
"""Limit of a token's scopes with a constraint: each is evaluated for each study."""


SCOPE_PLACES = (("scope",), ("scp",))
"""Where servers put scopes; ``scp`` is what Ory Hydra, Okta and Microsoft Entra write in JWTs."""


@dataclass(frozen=True, slots=True)
class PatientClaim:
    """The place of the launch's patient: the names that lead there, for an id or a reference.

    A ``reference`` is ``Patient/<id>`` or the absolute URL of a Patient at the EHR; one of anything
    else (a practitioner in ``sub``) is no patient.
    """

    path: tuple[str, ...]
    is_reference: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """The places of claims in an answer, each as the names that lead there.

    ``scope``: one or several places. ``scope_resources``: the types whose scopes count as scopes on
    ImagingStudy.
    """

    patient: tuple[PatientClaim, ...] = (PatientClaim(("patient",)),)
    scope: tuple[tuple[str, ...], ...] = SCOPE_PLACES
    scope_resources: tuple[str, ...] = (RESOURCE,)
    client_id: tuple[str, ...] = ("client_id",)
    subject: tuple[str, ...] = ("sub",)


@dataclass(frozen=True, slots=True)
class TokenRequirements:
    """Requirements that a token must meet.

    ``issuers``: if any, an ``iss`` must be one of them. ``audience``: if any, ``aud`` must name one
    of them. ``leeway_seconds``: permitted difference of clocks at ``nbf`` and ``exp``.
    ``fhir_url``: the EHR's base. ``lifetime_seconds``: lifetime of a token without ``exp``;
    ``None``: it must have one.
    """

    issuers: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    claims: Claims = Claims()
    fhir_url: str = ""
    leeway_seconds: float = 0
    lifetime_seconds: float | None = None


def names_audience(aud: object, audience: Collection[str]) -> bool:
    """Return whether ``aud`` (a text or a list: RFC 7519 4.1.3) names one of ``audience``."""
    names = aud if isinstance(aud, list) else [aud]
    return any(isinstance(name, str) and name in audience for name in names)


def is_access_token_type(token_type: object) -> bool:
    """Return whether this is a type of access tokens that are sent as bearer tokens."""
    return isinstance(token_type, str) and token_type.lower() in _ACCESS_TOKEN_TYPES


def token_of(answer: dict[str, Any], expected: TokenRequirements, *, now: float) -> Token | None:
    """Return the facts of an active token, ``None`` for an inactive one.

    ``now``: in seconds since 1970. Raises ``TokenRejected`` for an active token that does not meet
    the requirements, ``WrongShape`` for a malformed answer (``"true"`` and ``1`` are not ``true``).
    """
    active = answer.get("active")
    if not isinstance(active, bool):
        raise WrongShape("active")
    if not active:
        return None
    _check_type(answer)
    issued_by = _name(answer, "iss")
    if expected.issuers and issued_by is not None and issued_by not in expected.issuers:
        raise TokenRejected(
            Reason.WRONG_ISSUER, "iss", expected=expected.issuers, received=issued_by
        )
    if expected.audience and not names_audience(answer.get("aud"), expected.audience):
        raise TokenRejected(
            Reason.WRONG_AUDIENCE, "aud", expected=expected.audience, received=answer.get("aud")
        )
    expires_at = _valid_until(answer, expected, now)
    claims = expected.claims
    return Token(
        grants=_grants(_scope(answer, claims.scope), claims.scope_resources),
        expires_at=expires_at,
        patient=_patient(answer, expected),
        client_id=_printable(_at(answer, claims.client_id), "client_id"),
        subject=_printable(_at(answer, claims.subject), "sub"),
        issuer=issued_by,
    )


def _grants(scope: str, resources: tuple[str, ...]) -> tuple[Grant, ...]:
    grants = parse_scopes(scope, resources)
    if sum(grant.constraint is not None for grant in grants) > MAXIMUM_CONSTRAINTS:
        raise WrongShape("scope")
    return grants


def _at(answer: dict[str, Any], path: tuple[str, ...]) -> object:
    """Return the value at the end of ``path``, ``None`` without one."""
    value: object = answer
    for name in path:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise WrongShape(".".join(path))
        value = value.get(name)
    return value


def _scope(answer: dict[str, Any], places: tuple[tuple[str, ...], ...]) -> str:
    """Return the scopes as one text. Raises ``WrongShape`` for different ones at two places."""
    texts = [_scope_text(value) for path in places if (value := _at(answer, path)) is not None]
    if len({frozenset(text.split(" ")) for text in texts}) > 1:
        raise WrongShape("scope")
    return texts[0] if texts else ""


def _scope_text(value: object) -> str:
    """Return the scopes as one text; some servers write a list instead (RFC 7662: a text)."""
    if isinstance(value, list):
        if not all(isinstance(scope, str) for scope in value):
            raise WrongShape("scope")
        return " ".join(value)
    if not isinstance(value, str):
        raise WrongShape("scope")
    return value


def _patient(answer: dict[str, Any], expected: TokenRequirements) -> str | None:
    """Return the patient that the claims name. Raises ``WrongShape`` for two different ones."""
    patients = set()
    for claim in expected.claims.patient:
        value = _at(answer, claim.path)
        if value is None:
            continue
        if not isinstance(value, str):
            raise WrongShape("patient")
        patient = _referenced(value, expected.fhir_url) if claim.is_reference else value
        if patient is None:
            continue
        if not is_fhir_id(patient):
            raise WrongShape("patient")
        patients.add(patient)
    if len(patients) > 1:
        raise WrongShape("patient")
    return next(iter(patients), None)


def _referenced(reference: str, fhir_url: str) -> str | None:
    """Return the id in a reference to a Patient at the EHR, ``None`` for any other reference."""
    relative = reference.removeprefix(fhir_url + "/") if fhir_url else reference
    kind, slash, patient = relative.partition("/")
    return patient if kind == "Patient" and slash else None


def _check_type(answer: dict[str, Any]) -> None:
    """Raise ``TokenRejected`` for what is no access token, or is bound to a key.

    The proof of a bound one (``cnf``: RFC 9449 6.2, RFC 8705 3.2) is not checked here.
    """
    for name in _TYPE_CLAIMS:
        kind = _text(answer, name)
        if kind is not None and not is_access_token_type(kind):
            raise TokenRejected(
                Reason.WRONG_TOKEN_TYPE, name, expected="an access token's", received=kind
            )
    if answer.get("cnf") is not None:
        raise TokenRejected(Reason.SENDER_CONSTRAINED, "cnf", received=answer["cnf"])


def _valid_until(answer: dict[str, Any], expected: TokenRequirements, now: float) -> float:
    """Return ``exp`` in seconds since 1970. Raises ``TokenRejected`` outside of its time."""
    expires_at, not_before = _seconds(answer, "exp"), _seconds(answer, "nbf")
    if expires_at is not None:
        expires_at += expected.leeway_seconds
    elif expected.lifetime_seconds is not None:
        expires_at = now + expected.lifetime_seconds
    else:
        raise WrongShape("exp")
    if (
        not_before is not None
        and now + max(expected.leeway_seconds, CLOCKS_DIFFER_SECONDS) < not_before
    ):
        raise TokenRejected(
            Reason.NOT_YET_VALID, "nbf", expected=f"{now:.0f} or before", received=not_before
        )
    if now >= expires_at:
        raise TokenRejected(
            Reason.EXPIRED_TOKEN, "exp", expected=f"after {now:.0f}", received=answer.get("exp")
        )
    return expires_at


def _name(answer: dict[str, Any], field: str) -> str | None:
    """Return a text for the audit trail: printable, of bounded length."""
    return _printable(_text(answer, field), field)


def _printable(value: object, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise WrongShape(field)
    if value is not None and not (value.isprintable() and len(value) <= _MAXIMUM_NAME):
        raise WrongShape(field)
    return value


def _text(answer: dict[str, Any], field: str) -> str | None:
    value = answer.get(field)
    if value is not None and not isinstance(value, str):
        raise WrongShape(field)
    return value


def _seconds(answer: dict[str, Any], field: str) -> float | None:
    value = answer.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongShape(field)
    try:
        seconds = float(value)
    except OverflowError:
        raise WrongShape(field) from None
    if not math.isfinite(seconds):
        raise WrongShape(field)
    return seconds
