"""The demo's EHR: introspection, Patient, discovery, CORS; what it never says."""

import base64
import hashlib
import logging
import time
from urllib.parse import quote_plus

import aiohttp
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.patient import Patient
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import BadGateway
from sidecar.demo.ehr import tokens as ehr_tokens
from sidecar.demo.ehr.app import STORE
from sidecar.demo.ehr.scopes import describe
from sidecar.demo.people import MRN_SYSTEM, PATIENTS
from sidecar.ehr.client_authentication import ClientSecretBasic, FormAuthentication
from sidecar.ehr.discovery import Discovery
from sidecar.tokens.claims import TokenRequirements
from sidecar.tokens.introspection import Introspection
from tests.demo.ehr_server import (
    IMAGING,
    INTROSPECTION_ID,
    SCOPE,
    SECRET,
    Ehr,
)


@pytest.mark.parametrize("method", [ClientSecretBasic, FormAuthentication])
async def test_the_sidecar_introspects(
    ehr: Ehr,
    session: aiohttp.ClientSession,
    method: type[ClientSecretBasic] | type[FormAuthentication],
) -> None:
    """SIA-10: the facts of a live token; expired, revoked, unknown and refresh tokens are none."""

    async def endpoint() -> str:
        return f"{ehr.url}/introspect"

    async def issuers() -> tuple[str, ...]:
        return (ehr.url,)

    def asking(secret: str) -> Introspection:
        return Introspection(
            session,
            endpoint,
            method(INTROSPECTION_ID, secret),
            timeout_seconds=60,
            expected=TokenRequirements(issuers=(ehr.url,)),
            issuers=issuers,
        )

    introspection, store = asking(SECRET), ehr.app[STORE]
    token = store.issue(
        patient="peter", scope="patient/ImagingStudy.rs", client_id="viewer", lifetime_seconds=600
    )
    found = await introspection.introspect(token)
    assert found is not None
    assert (found.patient, found.client_id, found.issuer, len(found.grants)) == (
        "peter",
        "viewer",
        ehr.url,
        1,
    )
    assert 60 < found.expires_at - time.time() <= 600
    without = await introspection.introspect(
        store.issue(patient=None, scope="system/ImagingStudy.rs")
    )
    assert without is not None
    assert without.patient is None
    refresh_token = (await ehr.logged_in(f"{SCOPE} offline_access"))["refresh_token"]
    expired = store.issue(patient="peter", scope=SCOPE, lifetime_seconds=0)
    for dead in (expired, refresh_token, "unknown"):
        assert await introspection.introspect(dead) is None
    store.revoke(token)
    store.revoke("unknown")
    assert await introspection.introspect(token) is None
    with pytest.raises(BadGateway):
        await asking(SECRET + "x").introspect(token)


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({}, {}),
        ({"client_id": INTROSPECTION_ID}, {}),
        ({"client_id": INTROSPECTION_ID, "client_secret": "wrong"}, {}),
        ({"client_id": "wrong", "client_secret": SECRET}, {}),
        ({}, basic("imaging+%26+sidecar", "wrong")),
        # Not form-encoded: "+" and "%" mean something else then.
        ({}, basic(INTROSPECTION_ID, SECRET)),
        ({}, {"Authorization": "Basic ?"}),
        ({}, {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()}),
        ({}, {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}),
        ({}, {"Authorization": "Bearer abc"}),
        (
            {"client_id": INTROSPECTION_ID, "client_secret": SECRET},
            basic("imaging+%26+sidecar", "wrong"),
        ),
        (
            {"client_id": INTROSPECTION_ID, "client_secret": SECRET},
            basic(quote_plus(INTROSPECTION_ID), quote_plus(SECRET)),
        ),
    ],
)
async def test_only_the_sidecar_may_introspect(
    ehr: Ehr, form: dict[str, str], headers: dict[str, str]
) -> None:
    """RFC 7662 2.1: a live token is said to be one to nobody else."""
    token = ehr.app[STORE].issue(patient="peter", scope=SCOPE)
    response = await ehr.post("/introspect", {"token": token} | form, headers=headers)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert (await response.json())["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("patient", "scope", "asked", "status"),
    [
        ("peter", "patient/Patient.r", "peter", 200),
        ("peter", "patient/Patient.read", "peter", 200),
        ("peter", "openid patient/*.cruds", "peter", 200),
        ("peter", "patient/*.*", "peter", 200),
        ("peter", "patient/*.*", "robin", 403),
        ("peter", "patient/*.*", "nobody", 403),
        ("peter", "patient/ImagingStudy.rs", "peter", 403),
        ("peter", "patient/Patient.s", "peter", 403),
        ("peter", "patient/Patient.write", "peter", 403),
        ("peter", "patient/Patient.sr", "peter", 403),
        ("peter", "patient/Patient.r?name=x", "peter", 403),
        ("peter", "system/Patient.rs", "robin", 403),
        ("peter", "system/Patient.rs", "peter", 403),
        ("peter", "user/Patient.rs", "peter", 403),
        (None, "patient/*.*", "peter", 403),
        (None, "system/Patient.r", "robin", 200),
        (None, "system/Patient.read", "peter", 200),
        (None, "system/Patient.r", "nobody", 404),
        (None, "system/Patient.s", "peter", 403),
    ],
)
async def test_who_may_read_a_patient(
    ehr: Ehr, patient: str | None, scope: str, asked: str, status: int
) -> None:
    """SMART scopes, each in its own context (SIA-14, 15); refusals are OperationOutcomes."""
    token = ehr.app[STORE].issue(patient=patient, scope=scope)
    response = await ehr.get(f"/fhir/Patient/{asked}", headers={"Authorization": f"Bearer {token}"})
    assert (response.status, response.content_type) == (status, "application/fhir+json")
    if status == 200:
        assert (await response.json(content_type=None))["id"] == asked
    else:
        OperationOutcome.model_validate(await response.json(content_type=None))


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer unknown"}, {"Authorization": "Basic YTpi"}]
)
async def test_a_patient_needs_a_token(ehr: Ehr, headers: dict[str, str]) -> None:
    """RFC 6750 3: with a challenge, and readable for an app's page."""
    response = await ehr.get(
        "/fhir/Patient/peter", headers=headers | {"Origin": "http://127.0.0.1:5173"}
    )
    assert response.status == 401
    assert ("error=" in response.headers["WWW-Authenticate"]) == bool(headers)
    assert response.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1:5173"
    OperationOutcome.model_validate(await response.json(content_type=None))


@pytest.mark.parametrize(
    ("patient", "scope", "status"),
    [
        (None, "system/Patient.rs", 200),
        (None, "system/Patient.r", 403),
        (None, "system/Patient.read", 403),
        ("peter", "system/Patient.rs", 403),
        ("peter", "patient/Patient.rs", 403),
    ],
)
async def test_the_backend_client_alone_searches_patients(
    ehr: Ehr, patient: str | None, scope: str, status: int
) -> None:
    """By identifier: those who have one of them."""
    bearer = {"Authorization": f"Bearer {ehr.app[STORE].issue(patient=patient, scope=scope)}"}
    for wanted in ([], [PATIENTS[0]], PATIENTS[:2]):
        value = ",".join(f"{MRN_SYSTEM}|{one.mrns[-1]}" for one in wanted) or f"{MRN_SYSTEM}|x"
        answer = await ehr.get(f"/fhir/Patient?identifier={value}", headers=bearer)
        assert answer.status == status
        body = await answer.json(content_type=None)
        if status == 200:
            Bundle.model_validate(body)
            found = {entry["resource"]["id"] for entry in body.get("entry", [])}
            assert found == {one.id for one in wanted}
    assert (await ehr.get("/fhir/Patient?identifier=x")).status == 401


async def test_the_resources_are_valid_fhir(ehr: Ehr) -> None:
    """FHIR R4: Patient, CapabilityStatement."""
    bearer = {
        "Authorization": f"Bearer {ehr.app[STORE].issue(patient=None, scope='system/Patient.r')}"
    }
    for patient in PATIENTS:
        body = await (await ehr.get(f"/fhir/Patient/{patient.id}", headers=bearer)).json(
            content_type=None
        )
        Patient.model_validate(body)
        assert [
            (identifier["system"], identifier["value"]) for identifier in body["identifier"]
        ] == [(MRN_SYSTEM, mrn) for mrn in patient.mrns]
        assert [one["use"] == "official" for one in body["identifier"]] == [
            mrn == patient.mrns[0] for mrn in patient.mrns
        ]
        assert (body["name"][0]["family"], body["name"][0]["given"]) == (
            patient.family,
            [patient.given],
        )
        assert (body["gender"], body["birthDate"]) == (patient.gender, patient.birth_date)
    statement = CapabilityStatement.model_validate(
        await (await ehr.get("/fhir/metadata")).json(content_type=None)
    )
    assert statement.fhirVersion == "4.0.1"


async def test_discovery_names_the_imaging_server(ehr: Ehr, session: aiohttp.ClientSession) -> None:
    """SIA-1, 2, and what the sidecar's Discovery finds."""
    smart = await (await ehr.get("/fhir/.well-known/smart-configuration")).json()
    assert smart["associated_endpoints"] == [
        {
            "url": IMAGING,
            "capabilities": [
                "smart-imaging-access",
                "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch",
            ],
        }
    ]
    assert "smart-imaging-access" not in smart["capabilities"]
    assert smart["code_challenge_methods_supported"] == ["S256"]
    assert set(smart["grant_types_supported"]) == {
        "authorization_code",
        "client_credentials",
        "refresh_token",
    }
    found = await Discovery(session, f"{ehr.url}/fhir", timeout_seconds=60).configuration()
    assert (found.issuer, found.token_endpoint) == (ehr.url, f"{ehr.url}/token")
    assert (found.authorization_endpoint, found.introspection_endpoint) == (
        f"{ehr.url}/authorize",
        f"{ehr.url}/introspect",
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/fhir/.well-known/smart-configuration"),
        ("GET", "/fhir/metadata"),
        ("GET", "/.well-known/openid-configuration"),
        ("GET", "/jwks"),
        ("GET", "/fhir/Patient/peter"),
        ("GET", "/fhir/Condition?patient=peter"),
        ("GET", "/fhir/Observation/x"),
        ("POST", "/token"),
        ("POST", "/revoke"),
    ],
)
async def test_a_page_elsewhere_may_ask(ehr: Ehr, method: str, path: str) -> None:
    """CORS: preflight and answer, errors too; never with cookies. Consent and introspection are not
    for scripts.
    """
    origin = {"Origin": "http://127.0.0.1:5173"}
    asking = origin | {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    async with ehr.browser.options(ehr.url + path, headers=asking) as preflight:
        assert preflight.status == 200
        assert "AUTHORIZATION" in preflight.headers["Access-Control-Allow-Headers"].upper()
    async with ehr.browser.request(method, ehr.url + path, headers=origin) as response:
        assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        assert "Access-Control-Allow-Credentials" not in response.headers
    for closed in ("/authorize", "/authorize/consent", "/introspect", "/logout"):
        async with ehr.browser.post(ehr.url + closed, data={}, headers=origin) as response:
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_secrets_are_nowhere(ehr: Ehr, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens and codes are kept by their SHA-256, and no log has them."""
    caplog.set_level(logging.DEBUG)
    code = await ehr.code(scope=f"{SCOPE} offline_access")
    _, given = await ehr.token(code=code)
    await ehr.introspect(given["access_token"])
    await ehr.patient("peter", given["access_token"])
    kept = repr([vars(ehr.app[STORE])[name] for name in ("_codes", "_access", "_refresh")])
    assert hashlib.sha256(given["access_token"].encode()).hexdigest() in kept
    for secret in (code, given["access_token"], given["refresh_token"]):
        assert secret not in kept
        assert secret not in caplog.text


def test_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten, which makes them inactive."""
    monkeypatch.setattr(ehr_tokens, "MAXIMUM_TOKENS", 3)
    store = ehr_tokens.TokenStore()
    tokens = [store.issue(patient="peter", scope=SCOPE) for _ in range(5)]
    assert [store.find(token) is not None for token in tokens] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("scope", "meaning"),
    [
        ("patient/ImagingStudy.rs", "Read and search imaging studies and their images"),
        ("patient/*.read", "Read and search all records"),
        ("patient/Observation.crus", "Create, read, change and search Observation records"),
        ("patient/Patient.r", "Read name and numbers"),
        (
            "patient/ImagingStudy.r?modality=CT",
            "Read imaging studies and their images, only where modality=CT",
        ),
        ("patient/ImagingStudy.sr", None),
        ("patient/ImagingStudy.", None),
        ("patient/ImagingStudy.?modality=CT", None),
        ("patient/ImagingStudy.read?modality=CT", None),
        ("patient/imagingStudy.rs", None),
        ("xpatient/*.rs", None),
        ("system/Patient.rs", None),
        ("user/*.rs", None),
        ("openid", "Know that you logged in"),
        ("email", None),
        ("launch", None),
    ],
)
def test_what_a_scope_says_to_a_person(scope: str, meaning: str | None) -> None:
    """What has no meaning here is never granted."""
    assert describe(scope) == meaning


@given(st.from_regex(r"(patient|system)/(\*|Patient|x)\.[cruds?*=a]{0,5}|.{0,9}", fullmatch=True))
def test_any_scope_has_a_meaning_or_none(scope: str) -> None:
    """Whatever an app asks for: no failure, and only a patient's data or the scopes of a
    launch.
    """
    meaning = describe(scope)
    launch = {"launch/patient", "offline_access", "online_access", "openid", "fhirUser"}
    assert meaning is None or (meaning and (scope in launch or scope.startswith("patient/")))
