"""Why a request is refused, and with which status."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused: metric label, log field and audit code.

    docs/reference/errors.md is made of the texts below each (``tests.documents.reference``).
    """

    MISSING_TOKEN = "missing_token"
    """The request has no access token."""
    MALFORMED_TOKEN = "malformed_token"
    """The Authorization header is not exactly one Bearer token."""
    INACTIVE_TOKEN = "inactive_token"
    """The authorization server says that the token is not active, and no more."""
    EXPIRED_TOKEN = "expired_token"
    """The token's ``exp`` is past."""
    NOT_YET_VALID = "not_yet_valid"
    """The token's ``nbf``, or the ``iat`` of a JWT, is ahead: compare the clocks."""
    WRONG_ISSUER = "wrong_issuer"
    """The token's ``iss`` is not the EHR's issuer."""
    WRONG_AUDIENCE = "wrong_audience"
    """The token's ``aud`` names none of ``tokens.audience``."""
    WRONG_TOKEN_TYPE = "wrong_token_type"
    """It is not an access token: a refresh token or an ID token, for instance."""
    SENDER_CONSTRAINED = "sender_constrained"
    """The token is bound to a key (``cnf``), whose proof is not checked here."""
    UNVERIFIED_TOKEN = "unverified_token"
    """It is not a JWT that a key of the authorization server has signed."""
    CONTRADICTORY_TOKEN = "contradictory_token"
    """The JWT and its introspection name different patients or clients."""
    APP_LAUNCH_OFF = "app_launch_off"
    """``access.app_launch`` is off: the site serves Backend Services clients alone."""
    INSUFFICIENT_SCOPE = "insufficient_scope"
    """No scope of the token covers this interaction with ImagingStudy."""
    CONSTRAINED_SCOPE = "constrained_scope"
    """The scope has a constraint that cannot be evaluated here."""
    NO_PATIENT_CONTEXT = "no_patient_context"
    """The token is for no patient."""
    OTHER_PATIENT = "other_patient"
    """The request names another patient than the token."""
    NO_PATIENT_NAMED = "no_patient_named"
    """The token may reach several patients, and the request names none."""
    UNKNOWN_CLIENT = "unknown_client"
    """``access.clients`` does not name this client."""
    NOT_THE_CLIENTS_PATIENT = "not_the_clients_patient"
    """The client has no permission for this patient."""
    PARTLY_EXCLUDED = "partly_excluded"
    """A part of the study is hidden, so it cannot be retrieved as a whole."""
    EXPIRED_CAPABILITY = "expired_capability"
    """The capability URL has expired."""
    OTHER_TOKEN = "other_token"
    """The capability URL was issued for another access token."""
    NOT_IN_CAPABILITY = "not_in_capability"
    """The capability URL is not for this operation."""
    UNKNOWN_CAPABILITY = "unknown_capability"
    """The capability URL cannot be opened with the keys of this site."""
    ABSENT = "absent"
    """The archive has no such study."""
    FOREIGN = "foreign"
    """The study is another patient's, or nobody's."""
    SHARED_UID = "shared_uid"
    """The archive has the study's UID under another patient as well."""
    NOT_IN_STUDY = "not_in_study"
    """The study is the patient's; the series or instance is not in it."""
    NOT_SHOWN = "not_shown"
    """A scope's constraint, a client's entry, a rule or the external policy hides it."""


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
