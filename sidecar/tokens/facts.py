"""An introspection answer -> ``Token`` (RFC 7662 section 2.2; SMART App Launch 2.2 "Token Introspection"; SIA-10)."""

import math
from typing import Any

from sidecar.access.scopes import parse_scopes
from sidecar.access.token import Token, is_fhir_id


class WrongShape(ValueError):
    """The answer is not what RFC 7662 and SMART say: ``field`` is the member that is wrong."""

    def __init__(self, field: str) -> None:
        super().__init__(f"introspection answer: {field}")
        self.field = field


# Token types that stand for an access token sent as a bearer token. A DPoP-bound token is not among them: its proof
# would have to be checked (RFC 9449).
_ACCESS_TOKEN_TYPES = frozenset({"bearer", "access_token", "urn:ietf:params:oauth:token-type:access_token"})
_MAXIMUM_NAME = 512
# What Cognito (token_use) and Keycloak (typ) call the tokens that are none to come here with.
_OTHER_TOKENS = frozenset({"id", "refresh", "offline", "logout"})


def token_of(answer: dict[str, Any], *, issuer: str | None, now: float) -> Token | None:
    """Return the facts of an active token, ``None`` for an inactive one.

    ``issuer``: when given, an answer that names another ``iss`` is inactive here. ``now`` in seconds since 1970.
    Raises ``WrongShape``: ``"true"`` or ``1`` are not ``true``, and nothing is guessed.
    """
    active = answer.get("active")
    if not isinstance(active, bool):
        raise WrongShape("active")
    if not active:
        return None
    expires_at = _seconds(answer, "exp")
    if expires_at is None:
        raise WrongShape("exp")
    not_before = _seconds(answer, "nbf")
    issued_by = _name(answer, "iss")
    token_type = _text(answer, "token_type")
    if (
        now >= expires_at
        or (not_before is not None and now < not_before)
        or (issuer is not None and issued_by is not None and issued_by != issuer)
        or (token_type is not None and token_type.lower() not in _ACCESS_TOKEN_TYPES)
        or _is_other_token(answer)
    ):
        return None
    patient = _text(answer, "patient")
    if patient is not None and not is_fhir_id(patient):
        raise WrongShape("patient")
    return Token(
        grants=parse_scopes(_text(answer, "scope") or ""),
        expires_at=expires_at,
        patient=patient,
        client_id=_name(answer, "client_id"),
        subject=_name(answer, "sub"),
        issuer=issued_by,
    )


def _is_other_token(answer: dict[str, Any]) -> bool:
    """Whether it is an ID or refresh token, or bound to a key (``cnf``: RFC 9449 6.2, RFC 8705 3.2).

    The proof of a bound token is not checked here, so it is not taken for a bearer token.
    """
    if answer.get("cnf") is not None:
        return True
    return any((_text(answer, name) or "").lower() in _OTHER_TOKENS for name in ("token_use", "typ"))


def _name(answer: dict[str, Any], field: str) -> str | None:
    """A text that goes into the audit trail: printable, of bounded length."""
    value = _text(answer, field)
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
