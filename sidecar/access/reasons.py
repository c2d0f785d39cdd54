"""Why a request is refused, and with which status."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused: metric label, log field and audit code."""

    MISSING_TOKEN = "missing_token"
    MALFORMED_TOKEN = "malformed_token"
    INACTIVE_TOKEN = "inactive_token"
    EXPIRED_TOKEN = "expired_token"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_TOKEN_TYPE = "wrong_token_type"
    SENDER_CONSTRAINED = "sender_constrained"
    UNVERIFIED_TOKEN = "unverified_token"
    CONTRADICTORY_TOKEN = "contradictory_token"
    APP_LAUNCH_OFF = "app_launch_off"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    CONSTRAINED_SCOPE = "constrained_scope"
    NO_PATIENT_CONTEXT = "no_patient_context"
    OTHER_PATIENT = "other_patient"
    NO_PATIENT_NAMED = "no_patient_named"
    UNKNOWN_CLIENT = "unknown_client"
    NOT_THE_CLIENTS_PATIENT = "not_the_clients_patient"
    PARTLY_EXCLUDED = "partly_excluded"
    EXPIRED_CAPABILITY = "expired_capability"
    OTHER_TOKEN = "other_token"
    NOT_IN_CAPABILITY = "not_in_capability"
    UNKNOWN_CAPABILITY = "unknown_capability"
    ABSENT = "absent"
    FOREIGN = "foreign"
    SHARED_UID = "shared_uid"
    NOT_IN_STUDY = "not_in_study"
    NOT_SHOWN = "not_shown"


INVALID_TOKEN = frozenset(
    {
        Reason.INACTIVE_TOKEN,
        Reason.EXPIRED_TOKEN,
        Reason.NOT_YET_VALID,
        Reason.WRONG_ISSUER,
        Reason.WRONG_AUDIENCE,
        Reason.WRONG_TOKEN_TYPE,
        Reason.SENDER_CONSTRAINED,
        Reason.UNVERIFIED_TOKEN,
        Reason.CONTRADICTORY_TOKEN,
    }
)
"""Why a token is not accepted: one answer for all of them (RFC 6750 3.1 ``invalid_token``)."""

STATUS: dict[Reason, int] = {
    **dict.fromkeys((Reason.MISSING_TOKEN, Reason.MALFORMED_TOKEN, *INVALID_TOKEN), 401),
    Reason.APP_LAUNCH_OFF: 403,
    Reason.INSUFFICIENT_SCOPE: 403,
    Reason.CONSTRAINED_SCOPE: 403,
    Reason.NO_PATIENT_CONTEXT: 403,
    Reason.OTHER_PATIENT: 403,
    Reason.NO_PATIENT_NAMED: 403,
    Reason.UNKNOWN_CLIENT: 403,
    Reason.NOT_THE_CLIENTS_PATIENT: 403,
    Reason.PARTLY_EXCLUDED: 403,
    Reason.EXPIRED_CAPABILITY: 403,
    Reason.OTHER_TOKEN: 403,
    Reason.NOT_IN_CAPABILITY: 403,
    Reason.UNKNOWN_CAPABILITY: 403,
    # The rest are one and the same to the caller (SIA-45).
    Reason.ABSENT: 404,
    Reason.FOREIGN: 404,
    Reason.SHARED_UID: 404,
    Reason.NOT_IN_STUDY: 404,
    Reason.NOT_SHOWN: 404,
}
