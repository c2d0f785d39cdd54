"""Check of the patient of a token: the record at the EHR has an identifier that is a PatientID.

Systems of identifiers are shown, and no value of one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.bootstrap.build import Sidecar
from sidecar.check.outcome import CheckOutcome, ok, skipped, warning
from sidecar.common.errors import Problem
from sidecar.common.fetch import FetchFailed
from sidecar.ehr.fhir_client import FhirClient
from sidecar.patients.ehr_lookup import EhrMapping
from sidecar.settings.document import Settings
from sidecar.tokens.rejection import TokenRejected

_MAXIMUM_SYSTEMS, _MAXIMUM_CHARACTERS = 10, 200


async def patient(settings: Settings, sidecar: Sidecar, token: str) -> CheckOutcome:
    """Check that ``patients.identifiers`` finds the patient of a token that is good."""
    if not isinstance(sidecar.patients, EhrMapping):
        return ok("patients.mapping is direct: Patient.id is the PatientID")
    try:
        claims = await sidecar.tokens.cache.validate(token)
        if claims is None or claims.patient is None:
            return skipped("the token has no patient in context")
        if found := await sidecar.patients.identifiers(claims.patient):
            return ok(f"{len(found)} of the Patient's identifiers may be its PatientID")
        systems, hidden = await _systems(sidecar.patients.client, claims.patient)
    except (Problem, TokenRejected) as error:
        why = error.for_operators()
    except FetchFailed as failed:
        why = f"patient_{failed.reason}" + (f" ({failed.detail})" if failed.detail else "")
    else:
        configured = {identifier.system for identifier in settings.patients.identifiers}
        return _without_identifier(configured, systems, hidden)
    return warning(
        f"the Patient cannot be used: {why}",
        "Is ehr.fhir_url the server whose patients the tokens name? See token.search as well.",
    )


def _without_identifier(configured: set[str], systems: set[str], hidden: int) -> CheckOutcome:
    if known := configured & systems:
        return warning(
            f"the Patient has no identifier in use of {_shown(known)}",
            "Those with use old, outside of their period, or with wildcards are left out "
            "(docs/ehr.md).",
        )
    has = "none that can be shown" if not systems else _shown(systems)
    more = f", and {hidden} that may not be shown" if hidden else ""
    return warning(
        f"the Patient has no identifier of {_shown(configured)}",
        f"The systems of its identifiers: {has}{more}. Compare patients.identifiers: each letter "
        "counts.",
    )


async def _systems(client: FhirClient, patient_id: str) -> tuple[set[str], int]:
    """Return the systems of a Patient's identifiers, and how many of them may not be shown.

    Raises ``FetchFailed``, and what our credentials raise.
    """
    answer = await client.read(f"Patient/{patient_id}")
    if answer.status != 200:
        raise FetchFailed("unexpected_status", f"status {answer.status}")
    entries = answer.strict_json_object().get("identifier", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FetchFailed("wrong_shape")
    systems = {entry["system"]: entry for entry in entries if isinstance(entry.get("system"), str)}
    shown = {system for system in systems if _may_be_shown(system, entries)}
    return shown, len(systems) - len(shown)


def _may_be_shown(system: str, entries: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a system is a URI of usual length that has no value in it."""
    is_uri = system.isascii() and system.isprintable() and " " not in system and ":" in system
    values = [str(entry.get("value") or "").casefold() for entry in entries]
    has_value = any(value and value in system.casefold() for value in values)
    return is_uri and len(system) <= _MAXIMUM_CHARACTERS and not has_value


def _shown(systems: set[str]) -> str:
    more = ", …" if len(systems) > _MAXIMUM_SYSTEMS else ""
    return ", ".join(sorted(systems)[:_MAXIMUM_SYSTEMS]) + more
