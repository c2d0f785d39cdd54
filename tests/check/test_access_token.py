"""``check --token`` reports what is wrong with a token or with the settings for it."""

from typing import Any

import pytest
from aiohttp import web

from sidecar.access.reasons import INVALID_TOKEN, Reason
from sidecar.check import access_token
from sidecar.check.run import check
from sidecar.conformance.finding import Finding, State
from tests.check.scripted_site import Pacs, served
from tests.fakes.ehr import TOKEN, ScriptedEhr

ISSUER = "https://as.example.org"
ACTIVE: dict[str, Any] = ScriptedEhr().answer | {"aud": "us"}


class Ehr(ScriptedEhr):
    """Knows one token; to any other it answers ``unknown``."""

    unknown: Any = None

    async def _introspect(self, request: web.Request) -> web.Response:
        good = (await request.post())["token"] == TOKEN
        return web.json_response(self.answer if good else self.unknown or {"active": False})


async def found(
    changes: dict[str, Any], token: str = TOKEN, audience: tuple[str, ...] = ("us",)
) -> dict[str, Finding]:
    """With the patient's token."""
    ehr = Ehr(
        answer={name: value for name, value in (ACTIVE | changes).items() if value is not ...},
        issuer=ISSUER,
    )
    async with served(ehr, Pacs(), tokens={"audience": list(audience)}) as settings:
        return {finding.name: finding for finding in await check(settings, token)}


@pytest.mark.parametrize("changes", [{}, {"iss": ISSUER}, {"exp": ...}], ids=str)
async def test_a_good_token(changes: dict[str, Any]) -> None:
    """It goes on with what the token may have."""
    findings = await found(changes)
    assert findings["token.validation"].state is State.OK
    issuer = f"iss is {ISSUER}" if "iss" in changes else "it names no iss"
    assert findings["token.validation"].text.endswith(f" s more; {issuer}; aud is accepted (us)")
    assert "token.search" in findings


async def test_what_is_not_compared_is_said() -> None:
    finding = (await found({"aud": "them"}, audience=()))["token.validation"]
    assert finding.state is State.OK
    assert "aud is not compared (tokens.audience)" in finding.text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"iss": "https://other"}, f"wrong_issuer: iss should be one of {ISSUER}, "),
        ({"iss": "https://other"}, " is https://other"),
        ({"aud": ["them"]}, "wrong_audience: aud should be us, and is them"),
        ({"aud": ...}, "wrong_audience: aud should be us, and the token names none"),
        (
            {"token_use": "refresh_token"},
            "token_use should be an access token's, and is refresh_token",
        ),
        ({"exp": 5}, "expired_token: exp should be after "),
        ({"nbf": 9_999_999_998}, "not_yet_valid: nbf should be "),
        ({"cnf": {"jkt": "x"}}, "sender_constrained: it has cnf"),
        ({"active": False}, "says that the token is not active"),
        ({"patient": {"id": "p1"}}, "introspection_wrong_shape (patient)"),
        ({"sub": 1}, "introspection_wrong_shape (sub)"),
    ],
    ids=str,
)
async def test_a_token_that_is_no_good_here(changes: dict[str, Any], text: str) -> None:
    """The way ends there, and nothing of the token itself is shown."""
    findings = await found(changes)
    finding = findings["token.validation"]
    assert finding.state is State.FAIL
    assert text in finding.text
    assert finding.hint
    assert TOKEN not in finding.text
    assert findings["token"].state is State.SKIP
    assert "token.search" not in findings


async def test_what_is_no_token() -> None:
    finding = (await found({}, token="a b"))["token.validation"]
    assert (finding.state, finding.text) == (State.FAIL, "it is no bearer token")


@pytest.mark.parametrize(
    "answer", [ACTIVE, ACTIVE | {"aud": "them"}, ACTIVE | {"token_use": "id"}], ids=str
)
async def test_a_server_to_which_anything_is_active(answer: dict[str, Any]) -> None:
    """Also when we refuse it for another reason."""
    ehr = Ehr(issuer=ISSUER)
    ehr.unknown = answer
    async with served(ehr, Pacs(), tokens={"audience": ["us"]}) as settings:
        findings = {finding.name: finding for finding in await check(settings, None)}
    assert findings["tokens.introspection"].state is State.FAIL
    assert "Do not serve" in str(findings["tokens.introspection"].hint)


def test_each_reason_has_a_hint() -> None:
    assert set(access_token._HINTS) == INVALID_TOKEN - {Reason.INACTIVE_TOKEN}
