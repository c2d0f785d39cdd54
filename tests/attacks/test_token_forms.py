"""The attack table's rows on what a token is: the authorization server answers ``active: true`` to
each of them.

Whatever it is that makes a token no good here, the app gets one answer, and the PACS is not asked.
"""

import logging
from typing import Any

import aiohttp
import pytest

from sidecar.access.reasons import INVALID_TOKEN
from tests.attacks.row import OWN
from tests.common.peer import all_that_is_said
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import HEADERS, sidecar_between

ISSUER, AUDIENCE = "https://as.example.org", "https://imaging.example.org/fhir"
ACTIVE: dict[str, Any] = ScriptedEhr().answer | {"iss": ISSUER, "aud": AUDIENCE}
ROUTES = (OWN, f"/fhir/ImagingStudy?patient={PATIENT}", f"{OWN}/metadata")

INVALID: dict[str, dict[str, Any]] = {
    "a refresh token of Hydra": {"token_type": "Bearer", "token_use": "refresh_token"},
    "a refresh token of Keycloak": {"token_type": "Bearer", "typ": "Refresh"},
    "an offline token of Keycloak": {"typ": "Offline"},
    "a logout token": {"typ": "logout+jwt"},
    "an ID token of Cognito": {"token_use": "id"},
    "an ID token of Keycloak": {"typ": "ID"},
    "an ID token by RFC 8693": {"token_type": "urn:ietf:params:oauth:token-type:id_token"},
    "an authorization code": {"token_use": "authorize_code"},
    "a kind that nobody knows": {"token_use": "access_token_v2"},
    "a kind with a space": {"token_use": "access "},
    "an empty kind": {"token_use": ""},
    "a kind in other letters": {"token_use": "acce\u017fs"},
    "an access token by one member, none by another": {
        "token_use": "access_token",
        "typ": "Refresh",
    },
    "a DPoP token": {"token_type": "DPoP", "cnf": {"jkt": "x"}},
    "a token bound to a certificate": {"cnf": {"x5t#S256": "x"}},
    "a token bound to nothing": {"cnf": {}},
    "of another issuer": {"iss": "https://evil.example.org"},
    "of another realm": {"iss": ISSUER + "/realms/other"},
    "of an issuer with a slash": {"iss": ISSUER + "/"},
    "of an issuer in capitals": {"iss": ISSUER.upper()},
    "of an empty issuer": {"iss": ""},
    "for another server": {"aud": "https://fhir.example.org"},
    "for many, us not among them": {"aud": ["https://fhir.example.org", AUDIENCE + "/"]},
    "for nobody": {"aud": None},
    "for an object that names us": {"aud": {AUDIENCE: True}},
    "expired": {"exp": 1_000_000_000},
    "not yet valid": {"nbf": 9_999_999_998},
}
UNUSABLE: dict[str, dict[str, Any]] = {
    "kinds in a list": {"token_use": ["refresh_token", "access_token"]},
    "a kind in an object": {"typ": {"Bearer": True}},
    "a kind that is true": {"token_use": True},
    "issuers in a list": {"iss": [ISSUER, "https://evil.example.org"]},
    "a patient in an object": {"patient": {"reference": f"Patient/{PATIENT}"}},
    "patients in a list": {"patient": [PATIENT]},
    "a subject in numbers": {"sub": 4711},
    "an end in words": {"exp": "never"},
    "active in words": {"active": "true"},
}


async def answers(
    changes: dict[str, Any], pacs: ScriptedPacs
) -> list[tuple[int, str | None, bytes]]:
    """Status, challenge and body of each route."""
    tokens = {"audience": [AUDIENCE]}
    found = []
    async with (
        sidecar_between(
            ScriptedEhr(answer=ACTIVE | changes, issuer=ISSUER), pacs, tokens=tokens
        ) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for route in ROUTES:
            async with client.get(url + route) as response:
                body = await response.read()
                found.append((response.status, response.headers.get("WWW-Authenticate"), body))
    return found


async def test_the_good_token_is_served() -> None:
    """The table proves something only if the plain one works; so does the FHIR base as ``iss``."""
    pacs = ScriptedPacs(GOOD["chunked"])
    # Its metadata are no metadata.
    assert [status for status, _, _ in await answers({}, pacs)] == [200, 200, 502]
    assert pacs.requests


@pytest.mark.parametrize("name", INVALID)
async def test_a_token_that_is_no_good_here(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """401, to the byte as for a token that is not active; why is in the log, once a token and ten
    seconds.
    """
    caplog.set_level(logging.INFO)
    pacs = ScriptedPacs(GOOD["chunked"])
    assert await answers(INVALID[name], pacs) == await answers({"active": False}, pacs)
    assert pacs.requests == []
    rejections = [
        vars(one) for one in caplog.records if one.getMessage() == "an access token is not accepted"
    ]
    assert len(rejections) == 1
    refused = [vars(one)["reason"] for one in caplog.records if one.name == "sidecar.request"]
    assert refused[: len(ROUTES)] == [rejections[0]["reason"]] * len(ROUTES)
    assert refused[len(ROUTES) :] == ["inactive_token"] * len(ROUTES)
    assert set(refused) <= {reason.value for reason in INVALID_TOKEN}
    assert TOKEN not in all_that_is_said(caplog)


@pytest.mark.parametrize("name", UNUSABLE)
async def test_a_token_of_which_nothing_can_be_made(name: str) -> None:
    """502: nothing is guessed, and the app is not told to try again."""
    pacs = ScriptedPacs(GOOD["chunked"])
    assert {
        (status, challenge) for status, challenge, _ in await answers(UNUSABLE[name], pacs)
    } == {(502, None)}
    assert pacs.requests == []


async def test_the_issuer_may_be_the_fhir_base() -> None:
    """SMART App Launch names it ``iss``, too; then it is the one that is configured."""
    ehr, pacs = ScriptedEhr(issuer=ISSUER), ScriptedPacs(GOOD["chunked"])
    async with (
        sidecar_between(ehr, pacs) as (url, sidecar),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        base = sidecar.discovery._fhir_url
        for iss, status in ((base, 200), (base + "/x", 401)):
            ehr.answer = ACTIVE | {"iss": iss}
            sidecar.tokens.cache._answers.forget(None)
            async with client.get(url + ROUTES[1]) as response:
                assert response.status == status


@pytest.mark.parametrize(("status", "expected"), [(404, 200), (500, 503), (401, 503)])
async def test_without_a_smart_configuration(status: int, expected: int) -> None:
    """Where there is none (404) nothing names an issuer; where it cannot be had, who may be named
    is not known.
    """

    ehr = ScriptedEhr(answer=ACTIVE, configuration_status=status)
    pacs = ScriptedPacs(GOOD["chunked"])
    async with sidecar_between(ehr, pacs) as (_, sidecar):
        introspection = sidecar.discovery._fhir_url + "/introspect"
        tokens = {"introspection": {"url": introspection}}
        async with (
            sidecar_between(
                ehr, pacs, tokens=tokens, ehr={"fhir_url": sidecar.discovery._fhir_url}
            ) as (url, _),
            aiohttp.ClientSession(headers=HEADERS) as client,
            client.get(url + ROUTES[1]) as response,
        ):
            assert response.status == expected
