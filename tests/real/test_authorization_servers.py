"""Each way of validating a token, with real authorization servers: Keycloak and oidc-provider
(SIA-10, SIA-16).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.ehr.backend import pem
from tests.installed import installed
from tests.real.authorization_servers import (
    AUDIENCE,
    KEY_ID,
    KEYCLOAK,
    NO_KEYCLOAK,
    NO_OIDC_PROVIDER,
    OIDC_PROVIDER,
    ROOT,
    SECRET,
    US,
    AuthorizationServer,
    Keycloak,
    OidcProvider,
)
from tests.real.statuses import statuses
from tests.tables.token_forms import FORMS

OUR_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OURS = json.loads(RSAAlgorithm.to_jwk(OUR_KEY.public_key())) | {
    "kid": KEY_ID,
    "use": "sig",
    "alg": "RS384",
}
OURS.pop("key_ops")
SERVERS = [
    pytest.param("keycloak", marks=pytest.mark.authorization_server),
    pytest.param("oidc-provider", marks=pytest.mark.authorization_server),
]


def _one_that_signs(realm: dict[str, Any]) -> None:
    """Beside the sidecar's client one that authenticates by its key."""
    ours = next(client for client in realm["clients"] if client["clientId"] == US)
    attributes = {
        "use.jwks.string": "true",
        "jwks.string": json.dumps({"keys": [OURS]}),
        "token.endpoint.auth.signing.alg": "RS384",
    }
    realm["clients"].append(
        ours
        | {"clientId": "key", "clientAuthenticatorType": "client-jwt", "attributes": attributes}
    )
    post = ours | {"clientId": "post"}
    realm["clients"].append(post)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[AuthorizationServer]:
    """Each one, really running."""
    if request.param == "keycloak":
        installed(KEYCLOAK.is_dir(), NO_KEYCLOAK)
        with Keycloak(_one_that_signs) as keycloak:
            yield keycloak
        return
    installed((OIDC_PROVIDER / "node_modules").is_dir(), NO_OIDC_PROVIDER)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signing = json.loads(RSAAlgorithm.to_jwk(key)) | {"use": "sig", "alg": "RS256"}
    signing.pop("key_ops")
    with OidcProvider(OURS, signing) as provider:
        yield provider


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    """Our private key."""
    file = tmp_path / "key.pem"
    file.write_text(pem(OUR_KEY))
    return str(file)


def client(method: str, client_id: str, **more: Any) -> dict[str, Any]:
    """How we authenticate."""
    return {"client": {"method": method, "client_id": client_id} | more, "audience": [AUDIENCE]}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
async def test_introspection(server: AuthorizationServer, key_file: str, method: str) -> None:
    tokens = {
        "client_secret_basic": client("client_secret_basic", US, client_secret=SECRET),
        "client_secret_post": client("client_secret_post", "post", client_secret=SECRET),
        "private_key_jwt": client(
            "private_key_jwt",
            "key",
            private_key_file=key_file,
            key_id=KEY_ID,
            audience=server.configuration["issuer"],
        ),
    }[method]
    good = server.token(jwt=isinstance(server, Keycloak))
    assert await statuses(server, tokens, good, good[:-6] + "AAAAAA", "made-up") == [
        200,
        401,
        401,
        403,
    ]


@pytest.mark.parametrize("server", SERVERS[:1], indirect=True)
async def test_what_comes_with_an_access_token_is_none(server: Keycloak) -> None:
    """docs/ehr.md, "Token forms": Keycloak introspects its refresh and ID tokens, and says what
    they are.

    oidc-provider has client credentials alone here, which bring nothing else: so the test is for
    Keycloak alone.
    """
    found = server.launch("openid launch/patient patient/ImagingStudy.rs")
    others = {"refresh": found["refresh_token"], "ID": found["id_token"]}
    for name, token in others.items():
        (form,) = (
            one
            for one in FORMS
            if one.server == "Keycloak 26" and one.token.startswith(f"{name} token")
        )
        said = requests.post(
            server.configuration["introspection_endpoint"],
            {"token": token},
            auth=(US, SECRET),
            timeout=60,
        ).json()
        assert form.says.items() <= said.items(), name
    # Without an audience, which they would not have.
    tokens = client("client_secret_basic", US, client_secret=SECRET) | {"audience": []}
    assert await statuses(server, tokens, found["access_token"], *others.values()) == [
        200,
        401,
        401,
        403,
    ]


async def test_a_token_for_another_server_is_not_for_us(server: AuthorizationServer) -> None:
    tokens = client("client_secret_basic", US, client_secret=SECRET) | {
        "audience": ["https://another.example.org"]
    }
    assert await statuses(server, tokens, server.token(jwt=isinstance(server, Keycloak))) == [
        401,
        401,
    ]


async def test_our_own_secret_is_wrong(server: AuthorizationServer) -> None:
    tokens = client("client_secret_basic", US, client_secret="another")
    assert await statuses(server, tokens, server.token(jwt=isinstance(server, Keycloak))) == [
        502,
        502,
    ]


async def test_a_revoked_token(server: AuthorizationServer) -> None:
    """By introspection it is refused once what is remembered has expired."""
    token = server.token(jwt=isinstance(server, Keycloak))
    tokens = client("client_secret_basic", US, client_secret=SECRET) | {
        "cache": {"ttl_seconds": 0.01}
    }
    assert await statuses(server, tokens, token) == [200, 403]
    server.revoke(token)
    assert await statuses(server, tokens, token) == [401, 401]


def claims(server: AuthorizationServer) -> dict[str, Any]:
    """Keycloak names the app in ``azp`` in its JWTs."""
    return (
        {"claims": {"client_id": "azp"}}
        if isinstance(server, Keycloak)
        else {"jwt": {"type": "at+jwt"}}
    )


async def test_jwt(server: AuthorizationServer) -> None:
    good = server.token(jwt=True)
    head, body, signature = good.split(".")
    tampered = f"{head}.{body}.{signature[:-6]}AAAAAA"
    tokens = {"validation": "jwt", "audience": [AUDIENCE], "client": None} | claims(server)
    assert await statuses(server, tokens, good, tampered, f"{head}.{body}.", "made-up") == [
        200,
        401,
        401,
        401,
        403,
    ]


async def test_jwt_then_introspection(server: AuthorizationServer) -> None:
    """Keycloak introspects its JWTs; oidc-provider keeps none of its own, so that it knows no such
    token.
    """
    tokens = client("client_secret_basic", US, client_secret=SECRET) | {
        "validation": "jwt_then_introspection"
    }
    if isinstance(server, Keycloak):
        tokens["claims"] = {"client_id": ["azp"]}
        token = server.token(jwt=True)
        assert await statuses(server, tokens, token, "made-up") == [200, 401, 403]
        server.revoke(token)
        assert await statuses(server, tokens, token) == [401, 401]
    else:
        assert await statuses(server, tokens, server.token(jwt=True)) == [401, 401]


async def test_signed_introspection(server: AuthorizationServer) -> None:
    """RFC 9701: oidc-provider signs its answers; what Keycloak sends is not signed, and so is
    refused.
    """
    ours = "signed" if isinstance(server, OidcProvider) else US
    tokens = client("client_secret_basic", ours, client_secret=SECRET) | {
        "introspection": {"signed": True}
    }
    tokens["jwt"] = {"algorithms": ["RS256"]}
    good = server.token(jwt=isinstance(server, Keycloak))
    if isinstance(server, OidcProvider):
        assert await statuses(server, tokens, good, "made-up") == [200, 401, 403]
    else:
        assert await statuses(server, tokens, good) == [503, 503]


@pytest.mark.authorization_server
async def test_the_documented_realm_and_configuration() -> None:
    """docs/keycloak.md: without the scope no access, without launch/patient no patient."""
    installed(KEYCLOAK.is_dir(), NO_KEYCLOAK)
    tokens = yaml.safe_load((ROOT / "config" / "keycloak.yaml").read_text())["tokens"]
    tokens["client"] |= {"client_secret_file": None, "client_secret": SECRET}
    tokens["introspection"]["url"] = None
    with Keycloak(lambda realm: None) as keycloak:
        good = keycloak.token(jwt=True)
        bare = keycloak.token(jwt=True, scope="openid launch/patient")
        nobody = keycloak.token(jwt=True, scope="patient/ImagingStudy.rs")
        assert await statuses(keycloak, tokens, good, bare, nobody) == [200, 403, 403, 403]
