"""Why an answer is as it is, in plain English, and the requirement that says so."""

from dataclasses import dataclass

from sidecar.access.reasons import Reason

REQUIREMENTS = {
    "SIA-3": "our own smart-configuration and metadata, open",
    "SIA-10": "token active, unexpired, ours",
    "SIA-11": "scopes cover the request",
    "SIA-12": "the token's patient is the one asked for",
    "SIA-13": "Backend clients have what was authorized for them",
    "SIA-14": "no patient context is never system access",
    "SIA-16": "nothing when permissions cannot be established",
    "SIA-20": "search forms",
    "SIA-22": "another patient is 403",
    "SIA-23": "503 while warming",
    "SIA-39": "every retrieval carries the token of the search",
    "SIA-41": "other retrieval forms",
    "SIA-42": "the same checks for every form",
    "SIA-43": "never a silent partial answer",
    "SIA-44": "503 while the PACS stages",
    "SIA-45": "a denial tells nothing",
    "SIA-50": "capability URLs, bound to their token",
    "SIA-51": "unguessable",
    "SIA-52": "checks before issuing, lifetime",
}
"""Requirements by their number, in the words of docs/conformance.md."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A sentence for people, and the numbers of the requirements behind it."""

    why: str
    requirements: tuple[str, ...] = ()


_TOKEN = ("SIA-10",)
_LIKE_ABSENT = " To the app it looks as if the study did not exist."

REFUSALS: dict[str, Explanation] = {
    Reason.MISSING_TOKEN: Explanation("The request has no access token.", ("SIA-39", "SIA-10")),
    Reason.MALFORMED_TOKEN: Explanation("The Authorization header is not a bearer token.", _TOKEN),
    Reason.INACTIVE_TOKEN: Explanation("The EHR says that this token is not active.", _TOKEN),
    Reason.EXPIRED_TOKEN: Explanation("The token has expired.", _TOKEN),
    Reason.NOT_YET_VALID: Explanation("The token is not valid yet.", _TOKEN),
    Reason.WRONG_ISSUER: Explanation("The token was issued by somebody else.", _TOKEN),
    Reason.WRONG_AUDIENCE: Explanation("The token was issued for another server.", _TOKEN),
    Reason.WRONG_TOKEN_TYPE: Explanation("It is a token, but no access token.", _TOKEN),
    Reason.SENDER_CONSTRAINED: Explanation("The token is bound to a key.", _TOKEN),
    Reason.UNVERIFIED_TOKEN: Explanation("The signature of the token is not good.", _TOKEN),
    Reason.CONTRADICTORY_TOKEN: Explanation("What the token says contradicts itself.", _TOKEN),
    Reason.APP_LAUNCH_OFF: Explanation("This site serves no apps of patients.", ("SIA-11",)),
    Reason.INSUFFICIENT_SCOPE: Explanation("No scope of the token covers this.", ("SIA-11",)),
    Reason.CONSTRAINED_SCOPE: Explanation(
        "The constraint of the scope cannot be evaluated.", ("SIA-11", "SIA-16")
    ),
    Reason.NO_PATIENT_CONTEXT: Explanation("The token has no patient.", ("SIA-12", "SIA-14")),
    Reason.OTHER_PATIENT: Explanation(
        "The token is for another patient than the request.", ("SIA-12", "SIA-22")
    ),
    Reason.NO_PATIENT_NAMED: Explanation("The request names no patient.", ("SIA-12",)),
    Reason.UNKNOWN_CLIENT: Explanation("This app has no permissions here.", ("SIA-13",)),
    Reason.NOT_THE_CLIENTS_PATIENT: Explanation(
        "This app was not authorized for this patient.", ("SIA-13",)
    ),
    Reason.PARTLY_EXCLUDED: Explanation(
        "A rule of the hospital hides a series of the study, so the study is not sent whole. "
        "The other series can be had one by one.",
        ("SIA-43",),
    ),
    Reason.EXPIRED_CAPABILITY: Explanation("The address of the study has ended.", ("SIA-52",)),
    Reason.OTHER_TOKEN: Explanation(
        "The address was made for another token than this one.", ("SIA-50",)
    ),
    Reason.NOT_IN_CAPABILITY: Explanation("The address does not cover this.", ("SIA-50",)),
    Reason.UNKNOWN_CAPABILITY: Explanation(
        "This server has not made the address.", ("SIA-51", "SIA-50")
    ),
    Reason.ABSENT: Explanation("The patient has no such study.", ("SIA-45",)),
    Reason.FOREIGN: Explanation(
        "The study is another patient's." + _LIKE_ABSENT, ("SIA-42", "SIA-45")
    ),
    Reason.SHARED_UID: Explanation(
        "Two patients have a study of this UID, so nobody gets it." + _LIKE_ABSENT,
        ("SIA-42", "SIA-45"),
    ),
    Reason.NOT_IN_STUDY: Explanation(
        "The series or instance is not in this study." + _LIKE_ABSENT, ("SIA-42", "SIA-45")
    ),
    Reason.NOT_SHOWN: Explanation(
        "It is not among what this token may see: there is no such thing, it is another "
        "patient's, or a rule of the hospital hides it or holds it back." + _LIKE_ABSENT,
        ("SIA-42", "SIA-45"),
    ),
    "pacs_warming": Explanation(
        "The archive needs more time; the same request works later.", ("SIA-44", "SIA-23")
    ),
    "unknown_path": Explanation("There is no such resource."),
    "bad_target": Explanation("The path is not spelled as this server spells it.", ("SIA-42",)),
    "bad_uid": Explanation("The path has something in place of a UID.", ("SIA-42",)),
    "client_gone": Explanation("The app broke the transfer off."),
}
"""Why a request was refused or failed, by the reason in the log."""

_PERMITTED = (*_TOKEN, "SIA-11", "SIA-12")
_SEARCH = Explanation(
    "The token is active, its scope covers searches, and it is for this patient.",
    (*_PERMITTED, "SIA-20"),
)
_RETRIEVAL = Explanation(
    "The token is active, its scope covers reading, and the study is its patient's.",
    (*_PERMITTED, "SIA-41", "SIA-42"),
)
_OPEN = Explanation("This document is open to everybody.", ("SIA-3",))

PERMITS: dict[str, Explanation] = {
    "imaging-study-search": _SEARCH,
    "imaging-study-search-post": _SEARCH,
    "imaging-study-compartment": _SEARCH,
    "imaging-study-compartment-post": _SEARCH,
    "imaging-study-read": _RETRIEVAL,
    "endpoint-read": _RETRIEVAL,
    "patient-wado-rs": _RETRIEVAL,
    "wado-rs": _RETRIEVAL,
    "wado-uri": _RETRIEVAL,
    "capability": Explanation(
        "The address was made for this token, which is active and may still see the study.",
        (*_PERMITTED, "SIA-42", "SIA-50"),
    ),
    "metadata": _OPEN,
    "smart-configuration": _OPEN,
    "versions": _OPEN,
    "structure-definition": _OPEN,
}
"""Why a request was permitted, by its route."""


def explain(route: str, status: int, reason: str | None) -> Explanation:
    """Return why a request to ``route`` was answered with this status."""
    if reason is not None and reason in REFUSALS:
        return REFUSALS[reason]
    if status >= 500:
        return Explanation("The permission or the images cannot be had now.", ("SIA-16",))
    if status >= 400:
        return Explanation("The request is not one that this server answers.")
    return PERMITS.get(route, Explanation("Nothing of a patient is in it."))
