"""The demo's EHR as an OpenID provider: discovery, keys, ID tokens."""

from typing import Any

import jwt
import pytest

from sidecar.demo.ehr.app import STORE
from tests.demo.ehr_server import SCOPE, Ehr

IDENTITY = f"{SCOPE} openid fhirUser offline_access"


async def verified(ehr: Ehr, id_token: str, **options: Any) -> dict[str, Any]:
    """The claims of an ID token, verified as an app does that knows the issuer's URL alone."""
    found = await (await ehr.get("/.well-known/openid-configuration")).json()
    assert found["issuer"] == ehr.url
    keys = await (await ehr.get(found["jwks_uri"].removeprefix(ehr.url))).json()
    header = jwt.get_unverified_header(id_token)
    assert header["alg"] in found["id_token_signing_alg_values_supported"]
    key = next(one for one in keys["keys"] if one["kid"] == header["kid"])
    assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi"}
    claims: dict[str, Any] = jwt.decode(
        id_token, jwt.PyJWK(key), [header["alg"]], audience="app", issuer=ehr.url
    )
    return claims


async def test_who_logged_in(ehr: Ehr) -> None:
    """SMART App Launch 2.2 "Scopes for requesting identity data": ``sub`` and ``fhirUser``."""
    for nonce in (None, "n-0S6_WzA2Mj"):
        code = await ehr.code("robin", scope=IDENTITY, nonce=nonce)
        status, given = await ehr.token(code=code)
        assert status == 200
        claims = await verified(ehr, given["id_token"])
        assert claims.get("nonce") == nonce
        assert (claims["sub"], claims["aud"]) == ("robin", "app")
        assert claims["fhirUser"] == f"{ehr.url}/fhir/Patient/robin"
        assert claims["auth_time"] <= claims["iat"] < claims["exp"]
        said = await ehr.introspect(given["access_token"])
        assert (said["sub"], said["fhirUser"]) == (claims["sub"], claims["fhirUser"])


async def test_an_id_token_is_no_access_token(ehr: Ehr) -> None:
    """It opens nothing."""
    _, given = await ehr.token(code=await ehr.code("robin", scope=IDENTITY))
    assert await ehr.introspect(given["id_token"]) == {"active": False}
    assert await ehr.patient("robin", given["id_token"]) == 401


@pytest.mark.parametrize(
    ("scope", "has_token", "has_user"),
    [(SCOPE, False, False), (f"{SCOPE} fhirUser", False, False), (f"{SCOPE} openid", True, False)],
)
async def test_only_openid_says_who(ehr: Ehr, scope: str, has_token: bool, has_user: bool) -> None:
    _, given = await ehr.token(code=await ehr.code("robin", scope=scope))
    assert ("id_token" in given) == has_token
    said = await ehr.introspect(given["access_token"])
    assert (("sub" in said), ("fhirUser" in said)) == (has_token, has_user)


async def test_a_person_without_a_patient_in_context(ehr: Ehr) -> None:
    """The ID token says who logged in; the access token opens no patient's record (SIA-14)."""
    _, given = await ehr.token(code=await ehr.code("robin", scope="openid patient/Patient.r"))
    assert (await verified(ehr, given["id_token"]))["sub"] == "robin"
    assert "patient" not in given
    assert await ehr.patient("robin", given["access_token"]) == 403


async def test_discovery_repeats_the_smart_configuration(ehr: Ehr) -> None:
    """OpenID Connect Discovery 1.0 section 3: the required members, in agreement with SMART."""
    found = await (await ehr.get("/.well-known/openid-configuration")).json()
    smart = await (await ehr.get("/fhir/.well-known/smart-configuration")).json()
    assert "sso-openid-connect" in smart["capabilities"]
    required = {
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    }
    assert found.keys() >= required
    both = found.keys() & smart.keys()
    assert {name: found[name] for name in both} == {name: smart[name] for name in both}
    for name in both:
        if name.endswith("_endpoint"):
            assert (await ehr.get(found[name].removeprefix(ehr.url))).status != 404, name


async def test_an_issued_token_names_nobody(ehr: Ehr) -> None:
    """A token that nobody logged in for."""
    token = ehr.app[STORE].issue(patient="peter", scope=f"{SCOPE} openid fhirUser")
    assert "sub" not in await ehr.introspect(token)
