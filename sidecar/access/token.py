"""The facts of a validated access token."""

import re
from dataclasses import dataclass

from sidecar.access.scopes import Grant

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)


def is_fhir_id(text: str) -> bool:
    """Whether ``text`` is a FHIR R4 ``id`` (https://hl7.org/fhir/R4/datatypes.html#id)."""
    return _FHIR_ID.fullmatch(text) is not None and text.strip(".") != ""


@dataclass(frozen=True, slots=True)
class Token:
    """What the authorization server says of an active token (RFC 7662; SIA-10).

    ``patient`` is the FHIR id of the launch's patient, ``None`` without patient context; ``expires_at`` is in seconds
    since 1970 (``exp``).
    """

    grants: tuple[Grant, ...]
    expires_at: float
    patient: str | None = None
    client_id: str | None = None
    subject: str | None = None
    issuer: str | None = None
