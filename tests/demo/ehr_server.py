"""The demo's EHR on a loopback port, its clients' keys, and a browser's and an app's part in
talking to it.
"""

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from sidecar.bootstrap.context import open_session
from sidecar.demo.ehr.app import create_ehr
from sidecar.server.listener import listen
from tests.ehr.backend import EC_KEY, RSA_KEY
from tests.sidecar_process import free_port

PAGE = "https://imaging.example.org"
IMAGING = f"{PAGE}/fhir"
INTROSPECTION_ID, SECRET = "imaging & sidecar", "s3cret & odd:chars%+ü"
BACKEND_ID = "backend"
REDIRECT_URI = "http://127.0.0.1:5173/callback?from=ehr"
SCOPE = "launch/patient patient/ImagingStudy.rs patient/Patient.r"
VERIFIER = "v" * 43
FOREIGN = [
    "https://evil.example/cb",
    "http://evil.example",
    "http://127.0.0.1@evil.example/",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1:80@evil.example",
    "http://evil.example\\@127.0.0.1/",
    "http://127.0.0.1\\.evil.example",
    "http://localhost%2eevil.example/",
    "//127.0.0.1/",
    "/cb",
    "javascript:alert(1)//127.0.0.1",
    "app:/cb",
    "http://127.0.0.1/#fragment",
    "http://127.0.0.1/\r\nX: y",
    "http://127.0.0.1/a b",
    "https://127.0.0.1/",
    "http://127.0.0.1:x/",
    "http://[::1].evil.example/",
    "http://[::ffff:1.2.3.4]/",
    "http://2130706433/",
    f"{PAGE}.evil.example/",
    f"{PAGE}@evil.example/",
    "http://imaging.example.org/",
    "http://１27.0.0.1/",
    "http://127.0.0.1/" + "x" * 3_000,
]
"""Where nobody may be sent back to."""
FORM = "application/x-www-form-urlencoded"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

OTHER_KEY = ec.generate_private_key(ec.SECP384R1())
JWKS: dict[str, Any] = {
    "keys": [
        json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key()))
        | {"kid": "ec", "use": "sig", "alg": "ES384"},
        json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": "rsa"},
    ]
}

Change = Callable[[dict[str, Any]], dict[str, Any]]


def s256(verifier: str) -> str:
    return (
        base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    )


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
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": REDIRECT_URI,
            "scope": SCOPE,
            "state": "s t&",
            "aud": f"{self.url}/fhir",
            "code_challenge": s256(VERIFIER),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (full | changes).items() if value is not None}

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        response = await self.browser.get(self.url + path, allow_redirects=False, **options)
        await response.read()
        return response

    async def post(self, path: str, data: Any, **options: Any) -> aiohttp.ClientResponse:
        response = await self.browser.post(
            self.url + path, data=data, allow_redirects=False, **options
        )
        await response.read()
        return response

    async def page(self, **changes: str | None) -> Page:
        response = await self.get("/authorize", params=self.request(**changes))
        assert response.status == 200, response.headers
        return Page(await response.text())

    async def answer(
        self, page: Page, decision: str = "allow", change: Change = dict, **options: Any
    ) -> Any:
        fields = {**page.hidden, "patient": "peter", "scope": page.scopes, "decision": decision}
        return await self.post(page.action, aiohttp.FormData(pairs(change(fields))), **options)

    async def code(self, patient: str = "peter", **changes: str | None) -> str:
        """Log in as ``patient``, allowing everything."""
        response = await self.answer(
            await self.page(**changes), change=lambda fields: fields | {"patient": patient}
        )
        return answered(response)["code"]

    async def token(self, **form: str | None) -> tuple[int, dict[str, Any]]:
        """Ask the token endpoint as the app does; ``None`` leaves a parameter out."""
        full = {
            "grant_type": "authorization_code",
            "client_id": "app",
            "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
        } | form
        response = await self.post(
            "/token", {name: value for name, value in full.items() if value is not None}
        )
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()

    async def logged_in(self, scope: str = SCOPE) -> dict[str, Any]:
        status, given = await self.token(code=await self.code(scope=scope))
        assert status == 200, given
        return given

    async def refresh(self, token: str, **form: str | None) -> tuple[int, dict[str, Any]]:
        nothing: dict[str, str | None] = {"redirect_uri": None, "code_verifier": None}
        return await self.token(
            **nothing | {"grant_type": "refresh_token", "refresh_token": token} | form
        )

    async def introspect(self, token: str) -> dict[str, Any]:
        response = await self.post(
            "/introspect", {"token": token, "client_id": INTROSPECTION_ID, "client_secret": SECRET}
        )
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
        return cast("dict[str, Any]", await response.json())

    async def patient(self, patient: str, token: str) -> int:
        return (
            await self.get(f"/fhir/Patient/{patient}", headers={"Authorization": f"Bearer {token}"})
        ).status


def pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, one)
        for name, value in fields.items()
        for one in ([value] if isinstance(value, str) else list(value))
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
    # "unsafe" lets hosts without a name have cookies, as browsers do.
    cookies = aiohttp.CookieJar(unsafe=True)
    async with listen(app, "127.0.0.1", port), aiohttp.ClientSession(cookie_jar=cookies) as browser:
        yield Ehr(url, app, clock, browser)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The sidecar's own client session."""
    async with open_session(None, connections=10) as made:
        yield made
