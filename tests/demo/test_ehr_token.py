"""The demo's EHR: codes, refresh tokens, and the backend client's assertions."""

import base64
import hmac
import time
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.demo.people import MRN_SYSTEM, PATIENTS
from sidecar.ehr.credentials import BackendServices
from sidecar.ehr.discovery import Discovery
from sidecar.ehr.fhir_client import FhirClient
from sidecar.patients.ehr_lookup import EhrMapping
from tests.demo.ehr_server import (
    BACKEND_ID,
    FORM,
    JWT_BEARER,
    OTHER_KEY,
    SCOPE,
    VERIFIER,
    Ehr,
    s256,
)
from tests.ehr.backend import EC_KEY, RSA_KEY, pem


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": s256(VERIFIER)}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"client_id": "other"}, "invalid_grant"),
        ({"client_id": None}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:5173/callback"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"code": "unknown"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "invalid_request"),
        ({"client_secret": "x"}, "invalid_client"),
    ],
)
async def test_a_code_is_for_its_client_alone(
    ehr: Ehr, form: dict[str, str | None], error: str
) -> None:
    """RFC 6749 4.1.3, 5.2, RFC 7636 4.6; an attempt that had the code spends it."""
    code = await ehr.code()
    status, answer = await ehr.token(**{"code": code} | form)
    assert (status, answer["error"]) == (401 if error == "invalid_client" else 400, error)
    again, _ = await ehr.token(code=code)
    assert again == (400 if error == "invalid_grant" and form.get("code") != "unknown" else 200)


async def test_a_code_lasts_a_minute(ehr: Ehr) -> None:
    """RFC 6749 4.1.2: short-lived."""
    first, second = await ehr.code(), await ehr.code()
    ehr.clock.ahead += 58
    assert (await ehr.token(code=first))[0] == 200
    ehr.clock.ahead += 2.5
    assert (await ehr.token(code=second))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize("by", [{}, {"client_id": "thief"}, {"code_verifier": "w" * 43}])
async def test_a_replayed_code_ends_what_it_gave(ehr: Ehr, by: dict[str, str]) -> None:
    """RFC 6749 4.1.2: access and refresh token, after the code's own minute too; others live on."""
    code, bystander = await ehr.code(scope=SCOPE + " offline_access"), await ehr.logged_in()
    _, given = await ehr.token(code=code)
    assert (await ehr.introspect(given["access_token"]))["active"] is True
    ehr.clock.ahead += 300
    assert (await ehr.token(**{"code": code} | by))[1]["error"] == "invalid_grant"
    assert await ehr.introspect(given["access_token"]) == {"active": False}
    assert await ehr.patient("peter", given["access_token"]) == 401
    assert (await ehr.refresh(given["refresh_token"]))[1]["error"] == "invalid_grant"
    assert (await ehr.introspect(bystander["access_token"]))["active"] is True


@pytest.mark.parametrize(
    ("body", "options", "status"),
    [
        (
            b'{"grant_type": "authorization_code"}',
            {"headers": {"Content-Type": "application/json"}},
            400,
        ),
        (
            b"grant_type=refresh_token&grant_type=refresh_token",
            {"headers": {"Content-Type": FORM}},
            400,
        ),
        (b"grant_type=\xff", {"headers": {"Content-Type": FORM}}, 400),
        (b"grant_type=%ff", {"headers": {"Content-Type": FORM}}, 400),
        (
            b"grant_type=password" + b"".join(b"&a%d=1" % number for number in range(200)),
            {"headers": {"Content-Type": FORM}},
            400,
        ),
        (b"a=" + b"x" * 100_000, {"headers": {"Content-Type": FORM}}, 413),
        (
            b"grant_type=authorization_code",
            {"headers": {"Content-Type": FORM, "Authorization": "Basic YTpi"}},
            401,
        ),
    ],
)
async def test_what_is_no_token_request_is_an_oauth_error(
    ehr: Ehr, body: bytes, options: dict[str, Any], status: int
) -> None:
    """RFC 6749 5.2."""
    response = await ehr.post("/token", body, **options)
    assert (response.status, response.content_type) == (status, "application/json")
    assert (await response.json())["error"] == (
        "invalid_client" if status == 401 else "invalid_request"
    )


@pytest.mark.parametrize(
    ("scope", "seconds"), [("offline_access", 30 * 86_400), ("online_access", 12 * 3_600)]
)
async def test_a_refresh_token_is_followed_by_the_next(ehr: Ehr, scope: str, seconds: int) -> None:
    """SMART "Refresh": only with its scope; narrower when asked; each for its own time."""
    assert "refresh_token" not in await ehr.logged_in()
    given = await ehr.logged_in(f"{SCOPE} {scope}")
    ehr.clock.ahead += 3_601
    assert await ehr.introspect(given["access_token"]) == {"active": False}
    assert (await ehr.refresh(given["refresh_token"], scope="patient/*.rs"))[1][
        "error"
    ] == "invalid_scope"
    status, second = await ehr.refresh(given["refresh_token"], scope="patient/ImagingStudy.rs")
    assert (status, second["scope"], second["patient"]) == (200, "patient/ImagingStudy.rs", "peter")
    assert (await ehr.introspect(second["access_token"]))["scope"] == "patient/ImagingStudy.rs"
    assert (await ehr.refresh(second["refresh_token"], client_id="other"))[1][
        "error"
    ] == "invalid_grant"
    ehr.clock.ahead += seconds - 5
    status, third = await ehr.refresh(second["refresh_token"])
    assert (status, third["scope"]) == (200, f"{SCOPE} {scope}")
    ehr.clock.ahead += seconds + 1
    assert (await ehr.refresh(third["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_a_replayed_refresh_token_ends_everything(ehr: Ehr) -> None:
    """RFC 9700 4.14.2: one of the two who have it stole it."""
    first = await ehr.logged_in(f"{SCOPE} offline_access")
    _, second = await ehr.refresh(first["refresh_token"])
    assert (await ehr.refresh(first["refresh_token"]))[1]["error"] == "invalid_grant"
    assert (await ehr.refresh(second["refresh_token"]))[1]["error"] == "invalid_grant"
    assert [await ehr.introspect(one["access_token"]) for one in (first, second)] == [
        {"active": False}
    ] * 2


@pytest.mark.parametrize("key_id", [True, False])
@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
async def test_the_sidecar_reads_identifiers_of_every_patient(
    ehr: Ehr, session: aiohttp.ClientSession, algorithm: str, key_id: bool
) -> None:
    """SIA-17: Discovery, BackendServices and EhrMapping as the sidecar uses them."""
    discovery = Discovery(session, f"{ehr.url}/fhir", timeout_seconds=60)

    async def token_endpoint() -> str:
        return (await discovery.configuration()).token_endpoint or ""

    credentials = BackendServices(
        session,
        token_endpoint,
        client_id=BACKEND_ID,
        private_key=pem(EC_KEY if algorithm == "ES384" else RSA_KEY),
        key_id=algorithm[:2].replace("ES", "ec").replace("RS", "rsa") if key_id else None,
        algorithm=algorithm,
        scope="system/Patient.r",
        timeout_seconds=60,
    )
    mapping = EhrMapping(
        FhirClient(session, f"{ehr.url}/fhir", credentials, timeout_seconds=60),
        {MRN_SYSTEM: None},
        invalidation=Invalidation(),
    )
    for patient in PATIENTS:
        found = await mapping.identifiers(patient.id)
        assert found == {PatientIdentifier(mrn, None) for mrn in patient.mrns}
    assert await mapping.identifiers("nobody") == frozenset()
    said = await ehr.introspect(await credentials.token())
    assert (said["client_id"], said["scope"], "patient" in said) == (
        BACKEND_ID,
        "system/Patient.r",
        False,
    )
    assert said["exp"] - said["iat"] == 300
    await mapping.close()


@pytest.mark.parametrize(
    "scope", [None, "system/*.rs", "system/Patient.cruds", "patient/Patient.r", "system/Patient.*"]
)
async def test_the_backend_client_gets_patients_alone(ehr: Ehr, scope: str | None) -> None:
    """Nothing wider for it, and the one grant does not spoil the other."""
    status, answer = await ehr.token(
        grant_type="client_credentials",
        client_assertion_type=JWT_BEARER,
        client_assertion=assertion(ehr),
        scope=scope,
        client_id=BACKEND_ID,
    )
    assert (status, answer["error"]) == (400, "invalid_scope")


def assertion(
    ehr: Ehr, key: Any = EC_KEY, algorithm: str = "ES384", kid: str | None = "ec", **claims: Any
) -> str:
    """A signed assertion; ``None`` leaves a claim out."""
    now = int(time.time())
    full = {
        "iss": BACKEND_ID,
        "sub": BACKEND_ID,
        "aud": f"{ehr.url}/token",
        "iat": now,
        "exp": now + 240,
        "jti": uuid.uuid4().hex,
    } | claims
    kept = {name: value for name, value in full.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def signed_with_the_public_key(ehr: Ehr) -> str:
    """HS256 with the RSA public key's text as its secret, by hand: PyJWT refuses to make one."""
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    payload = assertion(ehr).split(".")[1]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').rstrip(b"=").decode()
    signature = (
        base64.urlsafe_b64encode(hmac.digest(public, f"{head}.{payload}".encode(), "sha256"))
        .rstrip(b"=")
        .decode()
    )
    return f"{head}.{payload}.{signature}"


ASSERTIONS: dict[str, Callable[[Ehr], str]] = {
    "other key": lambda ehr: assertion(ehr, OTHER_KEY),
    "other key without kid": lambda ehr: assertion(ehr, OTHER_KEY, kid=None),
    "unknown kid": lambda ehr: assertion(ehr, kid="../keys"),
    "the other key's kid": lambda ehr: assertion(ehr, kid="rsa"),
    "RS256": lambda ehr: assertion(ehr, RSA_KEY, "RS256", "rsa"),
    "alg none": lambda ehr: assertion(ehr, None, "none"),
    "HS256 with the public key": signed_with_the_public_key,
    "no JWT": lambda ehr: "x.y.z",
    "aud of the FHIR server": lambda ehr: assertion(ehr, aud=f"{ehr.url}/fhir"),
    "aud list": lambda ehr: assertion(ehr, aud=[f"{ehr.url}/token", "https://other.example"]),
    "no aud": lambda ehr: assertion(ehr, aud=None),
    "iss": lambda ehr: assertion(ehr, iss="other"),
    "sub": lambda ehr: assertion(ehr, sub="other"),
    "no exp": lambda ehr: assertion(ehr, exp=None),
    "expired": lambda ehr: assertion(ehr, exp=int(time.time()) - 1),
    "exp too far": lambda ehr: assertion(ehr, exp=int(time.time()) + 320),
    "exp infinite": lambda ehr: assertion(ehr, exp=float("inf")),
    "nbf ahead": lambda ehr: assertion(ehr, nbf=int(time.time()) + 60),
    "no jti": lambda ehr: assertion(ehr, jti=None),
    "empty jti": lambda ehr: assertion(ehr, jti=""),
    "long jti": lambda ehr: assertion(ehr, jti="x" * 300),
}


async def backend_token(ehr: Ehr, signed: str, **form: str | None) -> tuple[int, dict[str, Any]]:
    """Ask for a token as the backend client."""
    given: dict[str, str | None] = {
        "grant_type": "client_credentials",
        "scope": "system/Patient.rs",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": signed,
        "client_id": None,
    }
    return await ehr.token(**given | form)


@pytest.mark.parametrize("kind", ASSERTIONS)
async def test_a_false_assertion_is_refused(ehr: Ehr, kind: str) -> None:
    """RFC 7523 3, SMART "Asymmetric" authentication."""
    status, answer = await backend_token(ehr, ASSERTIONS[kind](ehr))
    assert (status, answer["error"], "access_token" in answer) == (401, "invalid_client", False)


async def test_an_assertion_is_good_once(ehr: Ehr) -> None:
    """RFC 7523 3 (7): its ``jti`` is remembered as long as it lives."""
    signed = assertion(ehr)
    assert (await backend_token(ehr, signed))[0] == 200
    assert (await backend_token(ehr, signed))[1]["error"] == "invalid_client"
    ehr.clock.ahead += 230
    assert (await backend_token(ehr, signed))[1]["error"] == "invalid_client"
    for form in ({"client_id": "other"}, {"client_secret": "x"}, {"client_assertion_type": None}):
        assert (await backend_token(ehr, assertion(ehr), **form))[1]["error"] == "invalid_client"
