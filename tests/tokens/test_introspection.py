"""RFC 7662 introspection at a real server: what is asked and found (SIA-10, SIA-16)."""

import logging
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_plus

import aiohttp
import pytest

from sidecar.access.facts import Token
from sidecar.common.errors import Unavailable
from sidecar.ehr.client_authentication import (
    BearerAuthentication,
    ClientSecretBasic,
    FormAuthentication,
)
from sidecar.ehr.credentials import StaticToken
from sidecar.tokens.claims import TokenRequirements
from sidecar.tokens.rejection import TokenRejected
from tests.common.peer import Peer, Reply, all_that_is_said
from tests.tokens.introspected import TOKEN, problem_of
from tests.tokens.introspecting import ACTIVE, SECRET, introspection

# Id and secret with everything that Basic and a form must encode.
ODD_ID, ODD_SECRET = "app 1:2/3+4%20&=;\u00fc", 's:e cr"e%t+\\~*\u20ac&token=x'


async def test_what_is_asked_and_what_is_found(peer: Peer, session: aiohttp.ClientSession) -> None:
    """SIA-10: ``POST`` with the token in the form, never in the URL; the facts of the answer."""
    peer.say(Reply(ACTIVE))
    token = await introspection(peer, session).introspect("a+b/c==&d")
    assert isinstance(token, Token)
    assert (token.patient, token.client_id) == ("p1", "app")
    asked = peer.asked[0]
    assert (asked.method, asked.target) == ("POST", "/introspect")
    assert asked.form == {"token": "a+b/c==&d", "token_type_hint": "access_token"}
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert asked.headers["Accept"] == "application/json"


async def test_a_token_that_is_not_active(peer: Peer, session: aiohttp.ClientSession) -> None:
    """SIA-10: the authorization server says so."""
    peer.say(Reply({"active": False}))
    assert await introspection(peer, session).introspect(TOKEN) is None


@pytest.mark.parametrize(
    ("changes", "reason", "claim"),
    [
        ({"exp": 1}, "expired_token", "exp"),
        ({"iss": "https://other"}, "wrong_issuer", "iss"),
        ({"aud": "the viewer"}, "wrong_audience", "aud"),
        ({"nbf": 9_999_999_998}, "not_yet_valid", "nbf"),
        ({"token_use": "refresh_token"}, "wrong_token_type", "token_use"),
    ],
)
async def test_an_active_token_that_is_not_good_here(
    peer: Peer,
    session: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    reason: str,
    claim: str,
) -> None:
    """SIA-10: for our own reasons; log and metric tell which, with what came and what is
    configured.
    """
    caplog.set_level(logging.INFO)
    peer.say(Reply(ACTIVE | {"aud": "us", "sub": "u1"} | changes))
    outcomes: list[str] = []
    asked = introspection(
        peer,
        session,
        issuers=issuers("https://ehr"),
        expected=TokenRequirements(audience=("us",)),
        observe=lambda what, _: outcomes.append(what),
    )
    with pytest.raises(TokenRejected) as rejected:
        await asked.introspect(TOKEN)
    assert rejected.value.reason == reason
    assert outcomes == [reason]
    (record,) = [
        vars(record) for record in caplog.records if record.name == "sidecar.tokens.introspection"
    ]
    assert (record["reason"], record["claim"]) == (reason, claim)
    assert record["received"] == str(changes[claim])
    assert record["expected"]
    assert TOKEN not in all_that_is_said(caplog, rejected.value)


def issuers(*named: str) -> Callable[[], Awaitable[tuple[str, ...]]]:
    """As configured, or from discovery."""

    async def configured() -> tuple[str, ...]:
        return named

    return configured


@pytest.mark.parametrize("iss", ["https://ehr", "https://ehr/fhir"])
async def test_each_of_the_issuers_will_do(
    peer: Peer, session: aiohttp.ClientSession, iss: str
) -> None:
    """The authorization server's, or the FHIR base."""
    peer.say(Reply(ACTIVE | {"iss": iss}))
    asked = introspection(peer, session, issuers=issuers("https://ehr", "https://ehr/fhir"))
    token = await asked.introspect(TOKEN)
    assert token is not None
    assert token.issuer == iss


async def test_issuers_are_looked_up_only_for_an_answer_that_names_one(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Without discovery the issuer is not known, and nothing is decided (SIA-16)."""

    async def down() -> tuple[str, ...]:
        raise Unavailable("x", reason="discovery_timeout")

    outcomes: list[str] = []
    asked = introspection(
        peer, session, issuers=down, observe=lambda what, _: outcomes.append(what)
    )
    peer.say(
        Reply(ACTIVE),
        Reply({"active": False, "iss": "https://ehr"}),
        Reply(ACTIVE | {"iss": "https://ehr"}),
    )
    assert await asked.introspect(TOKEN) is not None
    assert await asked.introspect(TOKEN) is None
    assert (await problem_of(asked)).reason == "discovery_timeout"
    assert outcomes == ["active", "inactive", "unavailable"]


async def test_basic_encodes_id_and_secret(peer: Peer, session: aiohttp.ClientSession) -> None:
    """RFC 6749 2.3.1: each is form-encoded, so that there is one colon, between them."""
    peer.say(Reply(ACTIVE))
    await introspection(
        peer, session, authentication=ClientSecretBasic(ODD_ID, ODD_SECRET)
    ).introspect(TOKEN)
    scheme, _, pair = peer.asked[0].headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    parts = b64decode(pair, validate=True).decode("ascii").split(":")
    assert [unquote_plus(part) for part in parts] == [ODD_ID, ODD_SECRET]
    assert "%3A" in parts[0]
    assert all(re.fullmatch(r"[A-Za-z0-9._~*+%-]+", part) for part in parts)
    assert set(peer.asked[0].form) == {"token", "token_type_hint"}


async def test_post_encodes_id_and_secret(peer: Peer, session: aiohttp.ClientSession) -> None:
    """RFC 6749 2.3.1: in the form; a secret with ``&token=`` in it stays a secret."""
    peer.say(Reply(ACTIVE))
    await introspection(
        peer, session, authentication=FormAuthentication(ODD_ID, ODD_SECRET)
    ).introspect(TOKEN)
    assert peer.asked[0].form == {
        "token": TOKEN,
        "token_type_hint": "access_token",
        "client_id": ODD_ID,
        "client_secret": ODD_SECRET,
    }
    assert "Authorization" not in peer.asked[0].headers


async def test_bearer_and_none(peer: Peer, session: aiohttp.ClientSession) -> None:
    """RFC 7662 2.1: our own token, never the caller's; or nothing."""
    peer.say(Reply(ACTIVE))
    await introspection(
        peer, session, authentication=BearerAuthentication(StaticToken("ours"))
    ).introspect(TOKEN)
    await introspection(
        peer, session, authentication=BearerAuthentication(StaticToken(None))
    ).introspect(TOKEN)
    assert [asked.headers.get("Authorization") for asked in peer.asked] == ["Bearer ours", None]
    assert [set(asked.form) for asked in peer.asked] == [{"token", "token_type_hint"}] * 2


@pytest.mark.parametrize(
    "method", [ClientSecretBasic("us", SECRET), FormAuthentication("us", SECRET)], ids=type
)
def test_a_secret_is_not_shown(method: object) -> None:
    """As ``SecretStr`` in the settings: a log line or a debugger's page with the object in it must
    not leak.
    """
    assert SECRET not in repr(method)
