"""A real Ory Hydra: whatever it says is active, access tokens for us alone are let in (SIA-10,
SIA-14).
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.installed import installed
from tests.real.authorization_servers import AUDIENCE
from tests.real.hydra.server import HYDRA, NO_HYDRA, STRATEGIES, Hydra, Tokens
from tests.real.statuses import statuses
from tests.tables.token_forms import FORMS, Form

pytestmark = pytest.mark.hydra

PATIENT_IN_EXT: dict[str, Any] = {"patient": [{"claim": ["ext", "patient"]}]}
INTROSPECTION: dict[str, Any] = {
    "client": {"method": "none"},
    "audience": [AUDIENCE],
    "claims": PATIENT_IN_EXT,
}
JWT: dict[str, Any] = {
    "validation": "jwt",
    "audience": [AUDIENCE],
    "client": None,
    "claims": PATIENT_IN_EXT,
    "jwt": {"algorithms": ["RS256"]},
}


@pytest.fixture(scope="module")
def hydra() -> Iterator[Hydra]:
    """A running one."""
    installed(HYDRA.is_file(), NO_HYDRA)
    with Hydra() as server:
        yield server


@pytest.fixture(scope="module", params=STRATEGIES, ids={"opaque": "by-reference"}.get)
def strategy(request: pytest.FixtureRequest) -> str:
    """Each form of access tokens."""
    return str(request.param)


@pytest.fixture(scope="module")
def tokens(hydra: Hydra, strategy: str) -> Tokens:
    """Of one launch."""
    return hydra.launch(strategy)


async def test_introspection(hydra: Hydra, strategy: str, tokens: Tokens) -> None:
    """A refresh token is active, Bearer, of the same patient and scopes. The app's own token is of
    no patient.
    """
    active = hydra.introspect(tokens.refresh)
    assert (active["active"], active["token_type"], active["ext"]) == (
        True,
        "Bearer",
        {"patient": "p1"},
    )
    own = hydra.client_credentials(strategy)
    presented = (tokens.access, tokens.refresh, tokens.id, own, "made-up")
    assert await statuses(hydra, INTROSPECTION, *presented) == [200, 401, 401, 403, 401, 403]


async def test_jwt(hydra: Hydra, tokens: Tokens, strategy: str) -> None:
    """Its JWTs have the scopes in ``scp``, a list; other tokens are no JWTs, an ID token is not for
    us.
    """
    own = hydra.client_credentials("jwt")
    expected = 200 if strategy == "jwt" else 401
    presented = (tokens.access, tokens.refresh, tokens.id, own)
    assert await statuses(hydra, JWT, *presented) == [
        expected,
        401,
        401,
        403,
        403 if strategy == "jwt" else 401,
    ]


async def test_jwt_then_introspection(hydra: Hydra) -> None:
    """Both name the same app and patient; revoked is refused."""
    both = (
        JWT
        | INTROSPECTION
        | {"validation": "jwt_then_introspection", "cache": {"ttl_seconds": 0.01}}
    )
    # Introspection says scope, the JWT scp; the scopes that count are those of the introspection.
    token = hydra.token(jwt=True)
    assert await statuses(hydra, both, token, hydra.launch("jwt").refresh) == [200, 401, 403]
    hydra.revoke(token)
    assert await statuses(hydra, both, token) == [401, 401]


async def test_a_revoked_token(hydra: Hydra, strategy: str) -> None:
    token = hydra.launch(strategy).access
    soon = INTROSPECTION | {"cache": {"ttl_seconds": 0.01}}
    assert await statuses(hydra, soon, token) == [200, 403]
    hydra.revoke(token)
    assert await statuses(hydra, soon, token) == [401, 401]


async def test_another_issuer_and_another_audience(
    hydra: Hydra, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names both in its answers."""
    elsewhere = INTROSPECTION | {"audience": ["https://another.example.org"]}
    assert await statuses(hydra, elsewhere, tokens.access) == [401, 401]
    monkeypatch.setitem(hydra.configuration, "issuer", "https://another.example.org")
    assert await statuses(hydra, INTROSPECTION, tokens.access) == [401, 401]


def test_what_it_says_is_what_is_documented(hydra: Hydra, tokens: Tokens, strategy: str) -> None:
    """docs/ehr.md has its token forms."""
    assert _says(hydra.introspect(tokens.access), "access token, introspected")
    assert _says(hydra.introspect(tokens.refresh), "refresh token, introspected")
    assert hydra.introspect(tokens.id) == {"active": False}
    for token in (tokens.access, tokens.id)[strategy == "opaque" :]:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in token.split(".")[:2]
        )
        assert not {"token_type", "token_use", "typ", "cnf"} & set(claims)
        assert _says(header, "access token, ID token as JWT")


def _says(answer: dict[str, Any], token: str) -> bool:
    (form,) = (one for one in FORMS if one.server == "Ory Hydra 2" and one.token == token)
    assert isinstance(form, Form)
    return form.says.items() <= answer.items()
