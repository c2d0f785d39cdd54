"""Claims that are rejected, by reason."""

from typing import Any

from sidecar.access.reasons import Reason
from sidecar.tokens.claims import CLOCKS_DIFFER_SECONDS

NOW = 1_700_000_000.0
ISSUER = "https://ehr.example.org"
REJECTIONS: dict[Reason, list[dict[str, Any]]] = {
    Reason.EXPIRED_TOKEN: [{"exp": NOW}, {"exp": NOW - 1}, {"exp": 0}, {"exp": -1}, {"exp": -1e300}],
    Reason.NOT_YET_VALID: [{"nbf": NOW + CLOCKS_DIFFER_SECONDS + 0.001}, {"nbf": NOW + 3600}],
    Reason.WRONG_ISSUER: [
        {"iss": "https://other.example.org"}, {"iss": ISSUER + "/"}, {"iss": ISSUER.upper()}, {"iss": ""},
    ],
    Reason.WRONG_TOKEN_TYPE: [
        *({"token_type": kind} for kind in (
            "refresh_token", "DPoP", "dpop", "Refresh", "mac", "N_A", "", "bearer ", "id_token", "JWT", "jwt",
            "urn:ietf:params:oauth:token-type:refresh_token", "urn:ietf:params:oauth:token-type:id_token",
            "urn:ietf:params:oauth:token-type:jwt")),
        *({"token_use": kind} for kind in (
            "refresh_token", "refresh", "id", "id_token", "authorize_code", "", "access_token2", "access token")),
        *({"typ": kind} for kind in (
            "Refresh", "ID", "Offline", "Logout", "DPoP", "logout+jwt", "rt+jwt", "JWT", "at+jwt2", "")),
        {"token_type": "Bearer", "token_use": "refresh_token"}, {"token_type": "Bearer", "typ": "Refresh"},
        {"token_use": "access_token", "typ": "ID"},
    ],
    Reason.SENDER_CONSTRAINED: [
        {"cnf": {"jkt": "x"}}, {"cnf": {"x5t#S256": "x"}, "token_type": "Bearer"}, {"cnf": {}}, {"cnf": False},
    ],
}  # fmt: skip
