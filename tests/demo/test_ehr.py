"""The demo's EHR as apps, browsers and the sidecar meet it, over real sockets: the whole flow, and each refusal."""

import base64
import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, cast
from urllib.parse import parse_qsl, quote_plus, urlsplit

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.patient import Patient
from hypothesis import example, given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from yarl import URL

from sidecar.access.identity import PatientIdentifier
from sidecar.common.errors import BadGateway
from sidecar.demo import ehr_tokens
from sidecar.demo.ehr import STORE, create_ehr
from sidecar.demo.ehr_authorize import redirect_origin
from sidecar.demo.ehr_scopes import describe
from sidecar.demo.people import MRN_SYSTEM, PATIENTS
from sidecar.patients.ehr import EhrMapping
from sidecar.server import _session, listen
from sidecar.tokens.credentials import BackendServices
from sidecar.tokens.discovery import Discovery
from sidecar.tokens.introspection import ClientSecretBasic, ClientSecretPost, Introspection
from tests.sidecar_process import free_port

PAGE = "https://imaging.example.org"
IMAGING = f"{PAGE}/fhir"
INTROSPECTION_ID, SECRET = "imaging & sidecar", "s3cret & odd:chars%+ü"
BACKEND_ID = "backend"
REDIRECT_URI = "http://127.0.0.1:5173/callback?from=ehr"
SCOPE = "launch/patient patient/ImagingStudy.rs patient/Patient.r"
VERIFIER = "v" * 43
FORM = "application/x-www-form-urlencoded"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

EC_KEY, RSA_KEY = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65_537, 2_048)
OTHER_KEY = ec.generate_private_key(ec.SECP384R1())
JWKS: dict[str, Any] = {
    "keys": [
        {**json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())), "kid": "ec", "use": "sig", "alg": "ES384"},
        {**json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())), "kid": "rsa"},
    ]
}

Change = Callable[[dict[str, Any]], dict[str, Any]]


def s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


class Page(HTMLParser):
    """What a browser would send of a page's form, and what a person can choose there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action = ""
        self.hidden: dict[str, str] = {}
        self.tags: set[str] = set()
        self.patients: list[str] = []
        self.scopes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if tag == "form":
            self.action = found["action"]
        elif found.get("type") == "hidden":
            self.hidden[found["name"]] = found["value"]
        elif found.get("type") in ("radio", "checkbox"):
            (self.patients if found["type"] == "radio" else self.scopes).append(found["value"])


class Clock:
    """The true time, and what a test adds to it."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Ehr:
    """A running EHR, and a browser at it."""

    url: str
    app: web.Application
    clock: Clock
    browser: aiohttp.ClientSession

    def request(self, **changes: str | None) -> dict[str, str]:
        """An authorization request; ``None`` leaves a parameter out."""
        full = {
            "response_type": "code", "client_id": "app", "redirect_uri": REDIRECT_URI, "scope": SCOPE, "state": "s t&",
            "aud": f"{self.url}/fhir", "code_challenge": s256(VERIFIER), "code_challenge_method": "S256",
        }  # fmt: skip
        return {name: value for name, value in (full | changes).items() if value is not None}

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        response = await self.browser.get(self.url + path, allow_redirects=False, **options)
        await response.read()
        return response

    async def post(self, path: str, data: Any, **options: Any) -> aiohttp.ClientResponse:
        response = await self.browser.post(self.url + path, data=data, allow_redirects=False, **options)
        await response.read()
        return response

    async def page(self, **changes: str | None) -> Page:
        response = await self.get("/authorize", params=self.request(**changes))
        assert response.status == 200, response.headers
        return Page(await response.text())

    async def answer(self, page: Page, decision: str = "allow", change: Change = dict, **options: Any) -> Any:
        fields = {**page.hidden, "patient": "peter", "scope": page.scopes, "decision": decision}
        return await self.post(page.action, aiohttp.FormData(pairs(change(fields))), **options)

    async def code(self, patient: str = "peter", **changes: str | None) -> str:
        """Log in as ``patient``, allowing everything."""
        response = await self.answer(await self.page(**changes), change=lambda fields: fields | {"patient": patient})
        return answered(response)["code"]

    async def token(self, **form: str | None) -> tuple[int, dict[str, Any]]:
        """Ask the token endpoint as the app does; ``None`` leaves a parameter out."""
        full = {
            "grant_type": "authorization_code", "client_id": "app", "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
        } | form  # fmt: skip
        response = await self.post("/token", {name: value for name, value in full.items() if value is not None})
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()

    async def logged_in(self, scope: str = SCOPE) -> dict[str, Any]:
        status, given = await self.token(code=await self.code(scope=scope))
        assert status == 200, given
        return given

    async def refresh(self, token: str, **form: str | None) -> tuple[int, dict[str, Any]]:
        nothing: dict[str, str | None] = {"redirect_uri": None, "code_verifier": None}
        return await self.token(**nothing | {"grant_type": "refresh_token", "refresh_token": token} | form)

    async def introspect(self, token: str) -> dict[str, Any]:
        response = await self.post(
            "/introspect", {"token": token, "client_id": INTROSPECTION_ID, "client_secret": SECRET}
        )
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
        return cast("dict[str, Any]", await response.json())

    async def patient(self, patient: str, token: str) -> int:
        return (await self.get(f"/fhir/Patient/{patient}", headers={"Authorization": f"Bearer {token}"})).status


def pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, one) for name, value in fields.items() for one in ([value] if isinstance(value, str) else list(value))
    ]


def answered(response: aiohttp.ClientResponse) -> dict[str, str]:
    """What came to the app's redirect_uri, its own query left alone."""
    assert response.status == 303
    location = response.headers["Location"]
    assert location.startswith(f"{REDIRECT_URI}&")
    query = dict(parse_qsl(urlsplit(location).query, strict_parsing=True))
    assert query.pop("from") == "ehr"
    return query


@pytest.fixture
async def ehr() -> AsyncIterator[Ehr]:
    """A running EHR."""
    port, clock = free_port(), Clock()
    url = f"http://127.0.0.1:{port}"
    app = create_ehr(
        base_url=url,
        imaging_fhir_url=IMAGING,
        introspection_client_id=INTROSPECTION_ID,
        introspection_client_secret=SECRET,
        backend_client_id=BACKEND_ID,
        backend_public_jwks=JWKS,
        clock=clock,
    )
    cookies = aiohttp.CookieJar(unsafe=True)  # "unsafe" lets hosts without a name have cookies, as browsers do.
    async with listen(app, "127.0.0.1", port), aiohttp.ClientSession(cookie_jar=cookies) as browser:
        yield Ehr(url, app, clock, browser)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The sidecar's own client session."""
    async with _session(None, connections=10) as made:
        yield made


async def test_the_whole_flow(ehr: Ehr) -> None:
    """SMART App Launch 2.2 "Standalone Launch": discovery, consent, code, token, introspection, Patient."""
    smart = await (await ehr.get("/fhir/.well-known/smart-configuration")).json()
    assert smart["authorization_endpoint"] == f"{ehr.url}/authorize"
    page = await ehr.page()
    assert page.patients == [patient.id for patient in PATIENTS]
    assert page.scopes == SCOPE.split()
    back = answered(await ehr.answer(page))
    assert back.pop("state") == "s t&"
    status, given = await ehr.token(code=back.pop("code"))
    assert back == {}
    token = given.pop("access_token")
    assert (status, given) == (200, {"token_type": "Bearer", "expires_in": 3600, "scope": SCOPE, "patient": "peter"})
    said = await ehr.introspect(token)
    assert said.pop("exp") - said.pop("iat") == 3600
    assert said == {
        "active": True, "scope": SCOPE, "client_id": "app", "iss": smart["issuer"], "token_type": "Bearer",
        "patient": "peter",
    }  # fmt: skip
    assert await ehr.patient("peter", token) == 200
    assert [await ehr.patient(other, token) for other in ("robin", "nobody")] == [403, 403]


async def test_an_authorization_request_may_be_posted(ehr: Ehr) -> None:
    """SMART capability ``authorize-post``; ``aud`` may be the imaging server too, and the page may be the demo's."""
    for changes in ({"aud": IMAGING}, {"aud": f"{ehr.url}/fhir/"}, {"redirect_uri": f"{PAGE}/"}):
        response = await ehr.post("/authorize", ehr.request(**changes))
        assert (response.status, response.content_type) == (200, "text/html")


async def test_a_person_may_allow_less(ehr: Ehr) -> None:
    """What is unchecked is not granted; without launch/patient there is no patient (SIA-14)."""
    page = await ehr.page(scope="patient/ImagingStudy.rs patient/Patient.r launch/patient openid")
    assert "openid" not in page.scopes
    less = answered(await ehr.answer(page, change=lambda form: form | {"scope": ["patient/ImagingStudy.rs"]}))
    _, given = await ehr.token(code=less["code"])
    assert given["scope"] == "patient/ImagingStudy.rs"
    assert "patient" not in given
    assert "patient" not in await ehr.introspect(given["access_token"])


@pytest.mark.parametrize("change", [lambda form: form | {"decision": "deny"}, lambda form: form | {"scope": []}])
async def test_a_person_may_say_no(ehr: Ehr, change: Change) -> None:
    """RFC 6749 4.1.2.1."""
    back = answered(await ehr.answer(await ehr.page(), change=change))
    assert (back["error"], back["state"], "code" in back) == ("access_denied", "s t&", False)


FOREIGN = [
    "https://evil.example/cb", "http://evil.example", "http://127.0.0.1@evil.example/", "http://127.0.0.1.evil.example",
    "http://127.0.0.1:80@evil.example", "http://evil.example\\@127.0.0.1/", "http://127.0.0.1\\.evil.example",
    "http://localhost%2eevil.example/", "//127.0.0.1/", "/cb", "javascript:alert(1)//127.0.0.1", "app:/cb",
    "http://127.0.0.1/#fragment", "http://127.0.0.1/\r\nX: y", "http://127.0.0.1/a b", "https://127.0.0.1/",
    "http://127.0.0.1:x/", "http://[::1].evil.example/", "http://[::ffff:1.2.3.4]/", "http://2130706433/",
    f"{PAGE}.evil.example/", f"{PAGE}@evil.example/", "http://imaging.example.org/", "http://１27.0.0.1/",
    "http://127.0.0.1/" + "x" * 3_000,
]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [*({"redirect_uri": uri} for uri in [*FOREIGN, None])]
    + [{"client_id": one} for one in (None, "", "<script>", "a b", BACKEND_ID, INTROSPECTION_ID, "x" * 200)],
)
async def test_nobody_is_redirected_to_an_unchecked_place(ehr: Ehr, changes: dict[str, str | None]) -> None:
    """RFC 6749 4.1.2.1, RFC 9700 4.11: a page that says so, no redirect, no refresh."""
    for broken in ({}, {"response_type": "token"}):
        response = await ehr.get("/authorize", params=ehr.request(**changes | broken))
        assert (response.status, response.content_type) == (400, "text/html")
        assert not response.headers.keys() & {"Location", "Refresh"}
        assert not Page(await response.text()).tags & {"a", "form", "script"}


@pytest.mark.parametrize("name", ["redirect_uri", "client_id", "scope", "state"])
async def test_a_parameter_stands_once(ehr: Ehr, name: str) -> None:
    """RFC 6749 3.1: which of two was meant is not guessed."""
    twice = [*ehr.request().items(), (name, ehr.request()[name])]
    assert (await ehr.get("/authorize", params=twice)).status == 400
    assert (await ehr.post("/authorize", aiohttp.FormData(twice))).status == 400


HOSTS = st.sampled_from(
    ["127.0.0.1", "localhost", "[::1]", "LOCALHOST", "evil.example", "imaging.example.org", "[::2]"]
)
PIECES = st.sampled_from(
    [*"@:/\\?#.%;&[]", "//", "%2f", "%40", " ", "\t", "evil.example", "127.0.0.1", "8080", "ü", "．"]
)


@given(
    st.builds(
        lambda scheme, host, rest: f"{scheme}://{host}{''.join(rest)}",
        st.sampled_from(["http", "https", "HTTP", "ftp"]), HOSTS, st.lists(PIECES, max_size=6),
    )
)  # fmt: skip
@example("http://127.0.0.1:1")
def test_a_redirect_uri_that_passes_leads_home_by_every_parser(uri: str) -> None:
    """Whatever is put together: two other URL parsers agree on the host, and it is this machine or the page."""
    origin = redirect_origin(uri, PAGE)
    if origin is None:
        return
    try:
        hosts = {urlsplit(uri).hostname, URL(uri).host, urlsplit(origin).hostname}
        port = urlsplit(uri).port
    except ValueError:  # No such port: browsers go nowhere.
        return
    home = {"127.0.0.1", "localhost", "::1"} if uri.startswith("http:") else {urlsplit(PAGE).hostname}
    assert len(hosts) == 1
    assert hosts <= home
    assert port == urlsplit(origin).port
    assert not set(uri) & set("\\# \t")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"aud": None}, "invalid_request"),
        ({"aud": "https://other.example/fhir"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": VERIFIER[:-1]}, "invalid_request"),
        ({"code_challenge": s256(VERIFIER) + "="}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "openid system/*.rs user/*.rs"}, "invalid_scope"),
        ({"scope": "launch/patient\npatient/*.rs"}, "invalid_scope"),
    ],
)
async def test_a_wrong_request_goes_back_to_the_app(ehr: Ehr, changes: dict[str, str | None], error: str) -> None:
    """RFC 6749 4.1.2.1, RFC 7636 4.4.1: with the state, and no page for the person."""
    back = answered(await ehr.get("/authorize", params=ehr.request(**changes)))
    assert (back["error"], back["state"], "code" in back) == (error, "s t&", False)


@pytest.mark.parametrize("state", [None, "ü", "a\r\nSet-Cookie: x=y"])
async def test_a_state_is_needed_and_plain(ehr: Ehr, state: str | None) -> None:
    """SMART App Launch 2.2 requires it; one that is no RFC 6749 state is not repeated."""
    back = answered(await ehr.get("/authorize", params=ehr.request(state=state)))
    assert (back["error"], "state" in back) == ("invalid_request", False)


async def test_the_page_runs_nothing_and_loads_nothing(ehr: Ehr) -> None:
    """A strict CSP that the page itself keeps; what the app says is text there."""
    hostile = 'patient/ImagingStudy.rs?x="><script>alert(1)</script> <img/src=x> launch/patient'
    response = await ehr.get("/authorize", params=ehr.request(scope=hostile))
    text, policy = await response.text(), response.headers["Content-Security-Policy"]
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "a"}
    assert hostile.split(maxsplit=1)[0] in page.scopes
    assert "&lt;img/src=x&gt;" in text
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'", f"style-src 'sha256-{digest}'", "form-action 'self' http://127.0.0.1:5173",
        "base-uri 'none'", "frame-ancestors 'none'",
    ]  # fmt: skip
    assert "http" not in style[1]
    assert "url(" not in style[1]
    assert '<html lang="en">' in text
    assert text.count("<label>") == len(page.patients) + len(page.scopes)
    assert response.headers["Cache-Control"] == "no-store"
    cookie = response.headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/authorize"))


@pytest.mark.parametrize(
    "change",
    [
        lambda form: form | {"patient": "somebody"},
        lambda form: {name: value for name, value in form.items() if name != "patient"},
        lambda form: form | {"patient": ["peter", "robin"]},
        lambda form: form | {"scope": [*form["scope"], "patient/*.cruds"]},
        lambda form: form | {"scope": ["system/*.rs"]},
        lambda form: form | {"decision": "maybe"},
        lambda form: form | {"transaction": "x" * 22},
        lambda form: {name: value for name, value in form.items() if name != "transaction"},
    ],
)
async def test_an_altered_form_gives_nothing(ehr: Ehr, change: Change) -> None:
    """Only what was asked and checked can be allowed."""
    response = await ehr.answer(await ehr.page(), change=change)
    assert (response.status, response.content_type, "Location" in response.headers) == (400, "text/html", False)


async def test_a_form_cannot_change_where_the_code_goes(ehr: Ehr) -> None:
    """The request is kept at the EHR: the form's own redirect_uri or challenge is nobody's."""
    extra = {"redirect_uri": "http://127.0.0.1:9/evil", "code_challenge": s256("w" * 43), "client_id": "evil"}
    back = answered(await ehr.answer(await ehr.page(), change=lambda form: form | extra))
    assert (await ehr.token(code=back["code"]))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_form_of_another_site_is_refused(ehr: Ehr, headers: dict[str, str]) -> None:
    """And the person's own page still works, once."""
    page = await ehr.page()
    refused = await ehr.answer(page, headers=headers)
    assert (refused.status, "Location" in refused.headers) == (403, False)
    own = {"Origin": ehr.url, "Sec-Fetch-Site": "same-origin"}
    assert "code" in answered(await ehr.answer(page, headers=own))
    assert (await ehr.answer(page, headers=own)).status == 400


async def test_a_form_of_another_browser_is_refused(ehr: Ehr) -> None:
    """Who asked for the page elsewhere cannot make this browser answer it."""
    page, elsewhere = await ehr.page(), aiohttp.ClientSession()
    async with elsewhere:
        other = Ehr(ehr.url, ehr.app, ehr.clock, elsewhere)
        assert (await other.answer(page)).status == 403
        await other.page()
        assert (await other.answer(page)).status == 403
    ehr.clock.ahead += 601
    assert (await ehr.answer(page)).status == 400


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
async def test_a_code_is_for_its_client_alone(ehr: Ehr, form: dict[str, str | None], error: str) -> None:
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
        (b'{"grant_type": "authorization_code"}', {"headers": {"Content-Type": "application/json"}}, 400),
        (b"grant_type=refresh_token&grant_type=refresh_token", {"headers": {"Content-Type": FORM}}, 400),
        (b"grant_type=\xff", {"headers": {"Content-Type": FORM}}, 400),
        (b"grant_type=%ff", {"headers": {"Content-Type": FORM}}, 400),
        (
            b"grant_type=password" + b"".join(b"&a%d=1" % number for number in range(200)),
            {"headers": {"Content-Type": FORM}},
            400,
        ),
        (b"a=" + b"x" * 100_000, {"headers": {"Content-Type": FORM}}, 413),
        (b"grant_type=authorization_code", {"headers": {"Content-Type": FORM, "Authorization": "Basic YTpi"}}, 401),
    ],
)
async def test_what_is_no_token_request_is_an_oauth_error(
    ehr: Ehr, body: bytes, options: dict[str, Any], status: int
) -> None:
    """RFC 6749 5.2."""
    response = await ehr.post("/token", body, **options)
    assert (response.status, response.content_type) == (status, "application/json")
    assert (await response.json())["error"] == ("invalid_client" if status == 401 else "invalid_request")


@pytest.mark.parametrize(("scope", "seconds"), [("offline_access", 30 * 86_400), ("online_access", 12 * 3_600)])
async def test_a_refresh_token_is_followed_by_the_next(ehr: Ehr, scope: str, seconds: int) -> None:
    """SMART "Refresh": only with its scope; narrower when asked; each for its own time."""
    assert "refresh_token" not in await ehr.logged_in()
    given = await ehr.logged_in(f"{SCOPE} {scope}")
    ehr.clock.ahead += 3_601
    assert await ehr.introspect(given["access_token"]) == {"active": False}
    assert (await ehr.refresh(given["refresh_token"], scope="patient/*.rs"))[1]["error"] == "invalid_scope"
    status, second = await ehr.refresh(given["refresh_token"], scope="patient/ImagingStudy.rs")
    assert (status, second["scope"], second["patient"]) == (200, "patient/ImagingStudy.rs", "peter")
    assert (await ehr.introspect(second["access_token"]))["scope"] == "patient/ImagingStudy.rs"
    assert (await ehr.refresh(second["refresh_token"], client_id="other"))[1]["error"] == "invalid_grant"
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
    assert [await ehr.introspect(one["access_token"]) for one in (first, second)] == [{"active": False}] * 2


@pytest.mark.parametrize("key_id", [True, False])
@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
async def test_the_sidecar_reads_identifiers_of_every_patient(
    ehr: Ehr, session: aiohttp.ClientSession, algorithm: str, key_id: bool
) -> None:
    """SIA-17: Discovery, BackendServices and EhrMapping as the sidecar uses them."""
    discovery = Discovery(session, f"{ehr.url}/fhir", timeout_seconds=5)

    async def token_endpoint() -> str:
        return (await discovery.configuration()).token_endpoint or ""

    credentials = BackendServices(
        session, token_endpoint, client_id=BACKEND_ID, private_key=pem(EC_KEY if algorithm == "ES384" else RSA_KEY),
        key_id=algorithm[:2].replace("ES", "ec").replace("RS", "rsa") if key_id else None, algorithm=algorithm,
        scope="system/Patient.r", timeout_seconds=5,
    )  # fmt: skip
    mapping = EhrMapping(session, f"{ehr.url}/fhir", {MRN_SYSTEM: None}, credentials, timeout_seconds=5)
    for patient in PATIENTS:
        found = await mapping.identifiers(patient.id)
        assert found == {PatientIdentifier(mrn, None) for mrn in patient.mrns}
    assert await mapping.identifiers("nobody") == frozenset()
    said = await ehr.introspect(await credentials.token())
    assert (said["client_id"], said["scope"], "patient" in said) == (BACKEND_ID, "system/Patient.r", False)
    assert said["exp"] - said["iat"] == 300
    await mapping.close()


@pytest.mark.parametrize(
    "scope", [None, "system/*.rs", "system/Patient.cruds", "patient/Patient.r", "system/Patient.*"]
)
async def test_the_backend_client_gets_patients_alone(ehr: Ehr, scope: str | None) -> None:
    """Nothing wider for it, and the one grant does not spoil the other."""
    status, answer = await ehr.token(
        grant_type="client_credentials", client_assertion_type=JWT_BEARER, client_assertion=assertion(ehr), scope=scope,
        client_id=BACKEND_ID,
    )  # fmt: skip
    assert (status, answer["error"]) == (400, "invalid_scope")


def assertion(ehr: Ehr, key: Any = EC_KEY, algorithm: str = "ES384", kid: str | None = "ec", **claims: Any) -> str:
    """A signed assertion; ``None`` leaves a claim out."""
    now = int(time.time())
    full = {
        "iss": BACKEND_ID, "sub": BACKEND_ID, "aud": f"{ehr.url}/token", "iat": now, "exp": now + 240,
        "jti": uuid.uuid4().hex,
    } | claims  # fmt: skip
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
        base64.urlsafe_b64encode(hmac.digest(public, f"{head}.{payload}".encode(), "sha256")).rstrip(b"=").decode()
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
        "grant_type": "client_credentials", "scope": "system/Patient.rs", "client_assertion_type": JWT_BEARER,
        "client_assertion": signed, "client_id": None,
    }  # fmt: skip
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


@pytest.mark.parametrize("method", [ClientSecretBasic, ClientSecretPost])
async def test_the_sidecar_introspects(
    ehr: Ehr, session: aiohttp.ClientSession, method: type[ClientSecretBasic] | type[ClientSecretPost]
) -> None:
    """SIA-10: the facts of a live token; expired, revoked, unknown and refresh tokens are none."""

    async def endpoint() -> str:
        return f"{ehr.url}/introspect"

    def asking(secret: str) -> Introspection:
        return Introspection(session, endpoint, method(INTROSPECTION_ID, secret), timeout_seconds=5, issuer=ehr.url)

    introspection, store = asking(SECRET), ehr.app[STORE]
    token = store.issue(patient="peter", scope="patient/ImagingStudy.rs", client_id="viewer", lifetime_seconds=50)
    found = await introspection.introspect(token)
    assert found is not None
    assert (found.patient, found.client_id, found.issuer, len(found.grants)) == ("peter", "viewer", ehr.url, 1)
    assert 45 < found.expires_at - time.time() <= 50
    without = await introspection.introspect(store.issue(patient=None, scope="system/ImagingStudy.rs"))
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
        ({}, basic(INTROSPECTION_ID, SECRET)),  # Not form-encoded: "+" and "%" mean something else then.
        ({}, {"Authorization": "Basic ?"}),
        ({}, {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()}),
        ({}, {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}),
        ({}, {"Authorization": "Bearer abc"}),
        ({"client_id": INTROSPECTION_ID, "client_secret": SECRET}, basic("imaging+%26+sidecar", "wrong")),
        (
            {"client_id": INTROSPECTION_ID, "client_secret": SECRET},
            basic(quote_plus(INTROSPECTION_ID), quote_plus(SECRET)),
        ),
    ],
)
async def test_only_the_sidecar_may_introspect(ehr: Ehr, form: dict[str, str], headers: dict[str, str]) -> None:
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
async def test_who_may_read_a_patient(ehr: Ehr, patient: str | None, scope: str, asked: str, status: int) -> None:
    """SMART scopes, each in its own context (SIA-14, 15); refusals are OperationOutcomes."""
    token = ehr.app[STORE].issue(patient=patient, scope=scope)
    response = await ehr.get(f"/fhir/Patient/{asked}", headers={"Authorization": f"Bearer {token}"})
    assert (response.status, response.content_type) == (status, "application/fhir+json")
    if status == 200:
        assert (await response.json(content_type=None))["id"] == asked
    else:
        OperationOutcome.model_validate(await response.json(content_type=None))


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer unknown"}, {"Authorization": "Basic YTpi"}])
async def test_a_patient_needs_a_token(ehr: Ehr, headers: dict[str, str]) -> None:
    """RFC 6750 3: with a challenge, and readable for an app's page."""
    response = await ehr.get("/fhir/Patient/peter", headers=headers | {"Origin": "http://127.0.0.1:5173"})
    assert response.status == 401
    assert ("error=" in response.headers["WWW-Authenticate"]) == bool(headers)
    assert response.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1:5173"
    OperationOutcome.model_validate(await response.json(content_type=None))


async def test_the_resources_are_valid_fhir(ehr: Ehr) -> None:
    """FHIR R4: Patient, CapabilityStatement."""
    bearer = {"Authorization": f"Bearer {ehr.app[STORE].issue(patient=None, scope='system/Patient.r')}"}
    for patient in PATIENTS:
        body = await (await ehr.get(f"/fhir/Patient/{patient.id}", headers=bearer)).json(content_type=None)
        Patient.model_validate(body)
        assert [(one["system"], one["value"]) for one in body["identifier"]] == [
            (MRN_SYSTEM, mrn) for mrn in patient.mrns
        ]
        assert [one["use"] == "official" for one in body["identifier"]] == [
            mrn == patient.mrns[0] for mrn in patient.mrns
        ]
        assert (body["name"][0]["family"], body["name"][0]["given"]) == (patient.family, [patient.given])
        assert (body["gender"], body["birthDate"]) == (patient.gender, patient.birth_date)
    statement = CapabilityStatement.model_validate(await (await ehr.get("/fhir/metadata")).json(content_type=None))
    assert statement.fhirVersion == "4.0.1"


async def test_discovery_names_the_imaging_server(ehr: Ehr, session: aiohttp.ClientSession) -> None:
    """SIA-1, 2, and what the sidecar's Discovery finds."""
    smart = await (await ehr.get("/fhir/.well-known/smart-configuration")).json()
    assert smart["associated_endpoints"] == [
        {
            "url": IMAGING,
            "capabilities": [
                "smart-imaging-access", "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch",
            ],
        }
    ]  # fmt: skip
    assert "smart-imaging-access" not in smart["capabilities"]
    assert smart["code_challenge_methods_supported"] == ["S256"]
    assert set(smart["grant_types_supported"]) == {"authorization_code", "client_credentials", "refresh_token"}
    found = await Discovery(session, f"{ehr.url}/fhir", timeout_seconds=5).configuration()
    assert (found.issuer, found.token_endpoint) == (ehr.url, f"{ehr.url}/token")
    assert (found.authorization_endpoint, found.introspection_endpoint) == (
        f"{ehr.url}/authorize", f"{ehr.url}/introspect",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/fhir/.well-known/smart-configuration"),
        ("GET", "/fhir/metadata"),
        ("GET", "/fhir/Patient/peter"),
        ("POST", "/token"),
    ],
)
async def test_a_page_elsewhere_may_ask(ehr: Ehr, method: str, path: str) -> None:
    """CORS: preflight and answer, errors too; never with cookies. Consent and introspection are not for scripts."""
    origin = {"Origin": "http://127.0.0.1:5173"}
    asking = origin | {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    async with ehr.browser.options(ehr.url + path, headers=asking) as preflight:
        assert preflight.status == 200
        assert "AUTHORIZATION" in preflight.headers["Access-Control-Allow-Headers"].upper()
    async with ehr.browser.request(method, ehr.url + path, headers=origin) as response:
        assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        assert "Access-Control-Allow-Credentials" not in response.headers
    for closed in ("/authorize", "/authorize/consent", "/introspect"):
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
        ("patient/ImagingStudy.r?modality=CT", "Read imaging studies and their images, only where modality=CT"),
        ("patient/ImagingStudy.sr", None),
        ("patient/ImagingStudy.", None),
        ("patient/ImagingStudy.?modality=CT", None),
        ("patient/ImagingStudy.read?modality=CT", None),
        ("patient/imagingStudy.rs", None),
        ("xpatient/*.rs", None),
        ("system/Patient.rs", None),
        ("user/*.rs", None),
        ("openid", None),
        ("launch", None),
    ],
)  # fmt: skip
def test_what_a_scope_says_to_a_person(scope: str, meaning: str | None) -> None:
    """What has no meaning here is never granted."""
    assert describe(scope) == meaning


@given(st.from_regex(r"(patient|system)/(\*|Patient|x)\.[cruds?*=a]{0,5}|.{0,9}", fullmatch=True))
def test_any_scope_has_a_meaning_or_none(scope: str) -> None:
    """Whatever an app asks for: no failure, and only a patient's data or the three scopes of a launch."""
    meaning = describe(scope)
    launch = {"launch/patient", "offline_access", "online_access"}
    assert meaning is None or (meaning and (scope in launch or scope.startswith("patient/")))
