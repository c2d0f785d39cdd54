"""Check of the patient's token: it is validated as ``serve`` would validate it."""

import time

from sidecar.access.reasons import Reason
from sidecar.bootstrap.build import Sidecar
from sidecar.check.outcome import CheckOutcome, failure, failure_of, ok
from sidecar.common.errors import Problem
from sidecar.settings.document import Settings
from sidecar.tokens.bearer import MalformedCredentials, bearer_token
from sidecar.tokens.rejection import TokenRejected

_HINTS = {
    Reason.EXPIRED_TOKEN: "Take a new token. If it is new: compare the clocks of both servers.",
    Reason.NOT_YET_VALID: "Compare the clocks of both servers.",
    Reason.WRONG_ISSUER: "Is it a token of this EHR? Else set ehr.issuer to what its tokens name "
    "(docs/ehr.md).",
    Reason.WRONG_AUDIENCE: "Is the token for this server? Else compare tokens.audience with what "
    "the authorization server puts into aud.",
    Reason.WRONG_TOKEN_TYPE: "Apps must send the access token, not the refresh or ID token that "
    "came with it (docs/ehr.md has a table of token forms).",
    Reason.SENDER_CONSTRAINED: "The token is bound to a key (DPoP, mutual TLS), whose proof is not "
    "checked here: the app's client must get plain bearer tokens.",
    Reason.UNVERIFIED_TOKEN: "Is it a JWT of this authorization server? Compare "
    "tokens.jwt.algorithms and its keys.",
    Reason.CONTRADICTORY_TOKEN: "The token and its introspection name different patients or "
    "clients: check tokens.claims.",
}


async def access_token(settings: Settings, sidecar: Sidecar, token: str) -> CheckOutcome:
    """Return whether ``serve`` would accept ``token``, and for how long."""
    try:
        bearer = bearer_token([f"Bearer {token}"]) or token
    except MalformedCredentials:
        return failure(
            "it is no bearer token", "It has characters that no token has: was it copied whole?"
        )
    try:
        claims = await sidecar.tokens.cache.validate(bearer)
    except TokenRejected as rejection:
        return failure(rejection.for_operators(), _HINTS[rejection.reason])
    except Problem as problem:
        return failure_of(problem, "See docs/configuration.md, what the EHR has to answer.")
    if claims is None:
        return failure(
            "the authorization server says that the token is not active",
            "It has expired, was revoked, is of another server, or our client may not see it.",
        )
    issuer = "it names no iss" if claims.issuer is None else f"iss is {claims.issuer}"
    audience = ", ".join(settings.tokens.audience)
    compared = (
        f"aud is accepted ({audience})" if audience else "aud is not compared (tokens.audience)"
    )
    seconds = max(0, claims.expires_at - time.time())
    return ok(f"active for {seconds:.0f} s more; {issuer}; {compared}")
