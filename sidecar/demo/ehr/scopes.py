"""Scopes that the demo EHR grants, and their meaning for people (SMART App Launch 2.2 "Scopes")."""

import re

CONTEXT = "launch/patient"
_PLAIN = {
    CONTEXT: "Know which patient this is",
    "openid": "Know that you logged in",
    "fhirUser": "Know which record is yours",
    "offline_access": "Stay connected when you are not there",
    "online_access": "Stay connected while you are there",
}
_PATIENT_DATA = re.compile(
    r"(?P<context>patient|system)/(?P<resource>\*|[A-Z][A-Za-z]{0,63})\."
    r"(?:(?P<v1>read|write|\*)|(?P<v2>(?=[cruds])c?r?u?d?s?))(?P<constraint>\?[!-~]{1,200})?",
    re.ASCII,
)
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_VERBS = {"c": "create", "r": "read", "u": "change", "d": "delete", "s": "search"}

SUPPORTED = (
    CONTEXT,
    "patient/ImagingStudy.rs",
    "patient/ImagingStudy.read",
    "patient/Patient.rs",
    "patient/Patient.read",
    "patient/*.rs",
    "patient/*.read",
    "openid",
    "fhirUser",
    "offline_access",
    "online_access",
    "system/Patient.rs",
    "system/Patient.read",
)
"""``scopes_supported`` of this EHR. Other resource types are granted as well."""

BACKEND = frozenset({"system/Patient.r", "system/Patient.rs", "system/Patient.read"})
"""Scopes that the backend client may have."""


def describe(scope: str) -> str | None:
    """Return a scope's meaning to the patient; ``None`` if this EHR grants no app this scope."""
    if scope in _PLAIN:
        return _PLAIN[scope]
    match = _PATIENT_DATA.fullmatch(scope)
    if match is None or match["context"] != "patient":
        return None
    if match["v1"] and match["constraint"]:
        return None  # Constraints came with version 2.
    *others, last = [_VERBS[letter] for letter in _letters(match)]
    verbs = " and ".join(filter(None, [", ".join(others), last])).capitalize()
    what = {
        "*": "all records",
        "ImagingStudy": "imaging studies and their images",
        "Patient": "name and numbers",
    }
    resource = what.get(match["resource"], f"{match['resource']} records")
    only = f", only where {match['constraint'][1:]}" if match["constraint"] else ""
    return f"{verbs} {resource}{only}"


def permits(
    scopes: list[str], resource: str, letter: str, *, patient: str | None, token_patient: str | None
) -> bool:
    """Return whether a token may do ``letter`` (``r``, ``s``) with a patient's ``resource``.

    ``scopes`` and ``token_patient`` are the token's. ``patient`` ``None`` is everybody.

    A system scope counts only in a token without a patient, a patient scope only in a token with a
    patient (SIA-14).
    """
    context = "system" if token_patient is None else "patient"
    if token_patient not in (None, patient):
        return False
    matches = (_PATIENT_DATA.fullmatch(scope) for scope in scopes)
    return any(
        match["context"] == context
        and match["resource"] in ("*", resource)
        and not match["constraint"]
        and letter in _letters(match)
        for match in matches
        if match is not None
    )


def _letters(match: re.Match[str]) -> str:
    return _V1[match["v1"]] if match["v1"] else match["v2"]
