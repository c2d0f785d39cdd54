"""Each way of showing the authorization server who we are (RFC 7662 2.1, RFC 7523, RFC 8705;
SIA-10).
"""

import time

import aiohttp
import jwt
import pytest

from sidecar.common.errors import BadGateway
from sidecar.ehr.assertion import ASSERTION_TYPE, ClientAssertion
from sidecar.ehr.client_authentication import (
    BearerAuthentication,
    FormAuthentication,
)
from tests.common.peer import Peer, Reply
from tests.ehr.backend import RSA_JWK, RSA_KEY, backend
from tests.tokens.introspecting import ACTIVE, introspection


@pytest.mark.parametrize("audience", [None, "https://ehr.example.org/issuer"])
async def test_private_key_jwt(
    session: aiohttp.ClientSession, peer: Peer, audience: str | None
) -> None:
    peer.say(Reply(ACTIVE))
    assertion = ClientAssertion("us", RSA_JWK, key_id="k1", algorithm="RS384")
    asked = introspection(
        peer, session, authentication=FormAuthentication("us", None, assertion, audience)
    )
    for _ in range(2):
        assert await asked.introspect("a-token")
    seen = set()
    for request in peer.asked:
        assert request.form["client_id"] == "us"
        assert request.form["token"] == "a-token"
        assert request.form["client_assertion_type"] == ASSERTION_TYPE
        assert "Authorization" not in request.headers
        wanted = audience or f"{peer.url}/introspect"
        signed = request.form["client_assertion"]
        claims = jwt.decode(signed, RSA_KEY.public_key(), algorithms=["RS384"], audience=wanted)
        assert (claims["iss"], claims["sub"]) == ("us", "us")
        assert 0 < claims["exp"] - time.time() <= 300
        assert jwt.get_unverified_header(signed)["kid"] == "k1"
        seen.add(claims["jti"])
    assert len(seen) == 2  # A server that remembers them would refuse the second one.


async def test_tls_client_auth_names_the_client(session: aiohttp.ClientSession, peer: Peer) -> None:
    """That the certificate is shown is tested with a real TLS server
    (tests/tokens/test_mutual_tls.py).
    """
    peer.say(Reply(ACTIVE))
    assert await introspection(peer, session, authentication=FormAuthentication("us")).introspect(
        "a-token"
    )
    assert peer.asked[0].form["client_id"] == "us"
    assert "Authorization" not in peer.asked[0].headers


TOKEN = {"access_token": "ours-1", "token_type": "Bearer", "expires_in": 300}


async def test_backend_services_keeps_its_token(session: aiohttp.ClientSession, peer: Peer) -> None:
    peer.say(Reply(TOKEN), Reply(ACTIVE))
    own = BearerAuthentication(backend(peer, session))
    asked = introspection(peer, session, authentication=own)
    for _ in range(3):
        assert await asked.introspect("a-token")
    assert [request.target for request in peer.asked] == ["/token"] + 3 * ["/introspect"]
    assert {request.headers.get("Authorization") for request in peer.asked[1:]} == {"Bearer ours-1"}


async def test_a_token_of_ours_that_was_revoked_is_renewed_once(
    session: aiohttp.ClientSession, peer: Peer
) -> None:
    own = BearerAuthentication(backend(peer, session))
    asked = introspection(peer, session, authentication=own)
    peer.say(
        Reply(TOKEN), Reply(status=401), Reply(TOKEN | {"access_token": "ours-2"}), Reply(ACTIVE)
    )
    assert await asked.introspect("a-token")
    assert peer.asked[-1].headers["Authorization"] == "Bearer ours-2"
    peer.asked.clear()
    peer.say(Reply(status=401), Reply(TOKEN), Reply(status=401))
    with pytest.raises(BadGateway):
        await asked.introspect("a-token")
    assert [request.target for request in peer.asked] == ["/introspect", "/token", "/introspect"]
