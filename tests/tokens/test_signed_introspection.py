"""Signed introspection answers (RFC 9701): what is not signed, or not for us, counts for nothing
(SIA-10, SIA-16).
"""

import json
import time
from typing import Any

import aiohttp
import pytest

from sidecar.access.facts import Token
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.tokens.introspection import Introspection
from sidecar.tokens.jwks import Jwks
from sidecar.tokens.signatures import Signatures
from sidecar.tokens.signed_introspection import AGE_SECONDS, SIGNED_ANSWER, SignedAnswers
from tests.common.peer import Peer, Reply
from tests.tokens.introspecting import introspection
from tests.tokens.signing import ISSUER, OTHER_RSA_KEY, claims, jwks, sign

NOW = int(time.time())
ACTIVE = {
    "active": True,
    "scope": "patient/ImagingStudy.rs",
    "client_id": "app",
    "exp": NOW + 7_200,
    "patient": "p1",
}


def said(token: Any = ACTIVE, **changes: Any) -> dict[str, Any]:
    """The claims of an answer for us."""
    answer = {"iss": ISSUER, "aud": "us", "iat": NOW, "token_introspection": token} | changes
    return {name: value for name, value in answer.items() if value is not None}


def signed(
    payload: dict[str, Any], *, typ: str = "token-introspection+jwt", **options: Any
) -> Reply:
    """An answer as the server sends it."""
    return Reply(sign(payload, typ=typ, **options), headers={"Content-Type": SIGNED_ANSWER})


def asking(session: aiohttp.ClientSession, peer: Peer) -> Introspection:
    """Introspection that wants signed answers; the first reply of ``peer`` is the answer, the
    second one the keys.
    """

    async def url() -> str:
        return peer.url + "/jwks"

    async def issuer() -> str:
        return ISSUER

    signatures = Signatures(Jwks(session, url, timeout_seconds=60), ("RS256",))
    return introspection(
        peer, session, signed=SignedAnswers(signatures, issuer, "us", clock=lambda: NOW)
    )


async def answered(session: aiohttp.ClientSession, peer: Peer, reply: Reply) -> Token | None:
    peer.say(reply, Reply(jwks()))
    return await asking(session, peer).introspect("a-token")


@pytest.mark.parametrize(
    "changes", [{}, {"aud": ["x", "us"]}, {"iat": NOW - AGE_SECONDS + 30}, {"iat": NOW + 10}]
)
async def test_good_answers(
    session: aiohttp.ClientSession, peer: Peer, changes: dict[str, Any]
) -> None:
    found = await answered(session, peer, signed(said(**changes)))
    assert found is not None
    assert found.patient == "p1"
    assert peer.asked[0].headers["Accept"] == SIGNED_ANSWER


async def test_a_signed_no(session: aiohttp.ClientSession, peer: Peer) -> None:
    assert await answered(session, peer, signed(said({"active": False}))) is None


BAD = {
    "plain JSON": Reply(ACTIVE, headers={"Content-Type": "application/json"}),
    "plain JSON that says it is signed": Reply(ACTIVE, headers={"Content-Type": SIGNED_ANSWER}),
    "a JWT of another media type": Reply(sign(said(), typ="token-introspection+jwt")),
    "without typ": signed(said(), typ="JWT"),
    "an access token": signed(claims(aud="us"), typ="at+jwt"),
    "an access token that holds an answer": signed(said() | {"scope": "x"}, typ="at+jwt"),
    "another key": signed(said(), key=OTHER_RSA_KEY),
    "another issuer": signed(said(iss="https://evil.example.org")),
    "for somebody else": signed(said(aud="another-server")),
    "for nobody": signed(said(aud=None)),
    "old": signed(said(iat=NOW - AGE_SECONDS - 60)),
    "from tomorrow": signed(said(iat=NOW + 86_400)),
    "at no time": signed(said(iat=None)),
    "at a truth": signed(said() | {"iat": True}),
    "not ascii": Reply("é.é.é", headers={"Content-Type": SIGNED_ANSWER}),
}
MISFITS = {
    "nothing said": signed(said(None)),
    "a text said": signed(said(json.dumps(ACTIVE))),
    "active is a text": signed(said(ACTIVE | {"active": "true"})),
    "what stands beside": signed(said(None) | ACTIVE),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_does_not_count(session: aiohttp.ClientSession, peer: Peer, case: str) -> None:
    with pytest.raises(Unavailable):
        await answered(session, peer, BAD[case])


@pytest.mark.parametrize("case", MISFITS)
async def test_what_is_signed_and_cannot_be_used(
    session: aiohttp.ClientSession, peer: Peer, case: str
) -> None:
    """The server means it: no repetition will mend it."""
    with pytest.raises(BadGateway):
        await answered(session, peer, MISFITS[case])


async def test_without_keys_no_answer_counts(session: aiohttp.ClientSession, peer: Peer) -> None:
    peer.say(signed(said()), Reply(status=500))
    with pytest.raises(Unavailable):
        await asking(session, peer).introspect("a-token")
