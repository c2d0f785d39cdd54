"""Ory Hydra in memory, with an app that gets opaque access tokens and one that gets JWTs."""

import json
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from tests.real.authorization_servers import AUDIENCE, PATIENT, ROOT, SECRET, Process
from tests.sidecar_process import free_port
from tests.waiting import wait_until

HYDRA = ROOT / "build" / "bin" / "hydra"
NO_HYDRA = "no Ory Hydra in build/bin: make hydra (needs Go and a C compiler)"
SCOPE = "openid offline_access patient/ImagingStudy.rs"
CALLBACK = "https://viewer.example.org/callback"
STRATEGIES = ("opaque", "jwt")
"""Of access tokens; also the client ids of the two apps."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an app gets for a code."""

    access: str
    refresh: str
    id: str


class Hydra(Process):
    """``configuration`` is what the EHR's smart-configuration says of it; its admin port
    introspects.
    """

    def __init__(self) -> None:
        super().__init__()
        admin_port = free_port()
        self.admin = f"http://127.0.0.1:{admin_port}"
        configuration = {
            "dsn": "memory",
            "urls": {
                "self": {"issuer": self.url},
                "login": f"{self.url}/login",
                "consent": f"{self.url}/consent",
            },
            "serve": {
                "public": {"host": "127.0.0.1", "port": self.port},
                "admin": {"host": "127.0.0.1", "port": admin_port},
            },
            "secrets": {"system": ["a-secret-of-these-tests"]},
        }
        file = self.folder / "hydra.yaml"
        file.write_text(json.dumps(configuration))
        command = [str(HYDRA), "serve", "all", "--dev", "--config", str(file)]
        self.start(command, self.url + "/health/ready", SQA_OPT_OUT="true")
        # It makes its keys when it is first asked, and drops whoever waits for longer than it
        # allows.
        dropped = (requests.ConnectionError,)
        discovered: dict[str, str] = wait_until(
            "Hydra's configuration", self._discovered, not_yet=dropped
        )
        self.configuration: dict[str, str] = discovered | {
            "introspection_endpoint": self.admin + "/admin/oauth2/introspect"
        }
        for strategy in STRATEGIES:
            self._register(strategy)
        wait_until("a first JWT of Hydra", lambda: self.client_credentials("jwt"), not_yet=dropped)

    def _discovered(self) -> dict[str, str]:
        found: dict[str, str] = requests.get(
            self.url + "/.well-known/openid-configuration", timeout=60
        ).json()
        return found

    def _register(self, strategy: str) -> None:
        client = {
            "client_id": strategy,
            "client_secret": SECRET,
            "access_token_strategy": strategy,
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "response_types": ["code"],
            "redirect_uris": [CALLBACK],
            "scope": SCOPE,
            "audience": [AUDIENCE],
        }
        made = requests.post(self.admin + "/admin/clients", json=client, timeout=60)
        assert made.status_code == 201, made.text

    def launch(self, client_id: str) -> Tokens:
        """A user logs in and consents, as the hospital's login page would say it; the app redeems
        its code.
        """
        browser = requests.Session()
        page = browser.get(
            self.configuration["authorization_endpoint"],
            params={
                "response_type": "code",
                "client_id": client_id,
                "redirect_uri": CALLBACK,
                "scope": SCOPE,
                "state": "a-long-state",
                "audience": AUDIENCE,
            },
            allow_redirects=False,
            timeout=60,
        )
        page = self._accept(browser, page, "login", {"subject": "amy"})
        consent = {
            "grant_scope": SCOPE.split(),
            "grant_access_token_audience": [AUDIENCE],
            "session": {"access_token": {"patient": PATIENT}},
        }
        page = self._accept(browser, page, "consent", consent)
        found = self._token(
            client_id,
            grant_type="authorization_code",
            code=_in(page, "code"),
            redirect_uri=CALLBACK,
        )
        return Tokens(found["access_token"], found["refresh_token"], found["id_token"])

    def _accept(
        self, browser: requests.Session, page: requests.Response, what: str, answer: dict[str, Any]
    ) -> requests.Response:
        _as_on_the_loopback(browser.cookies)
        challenge = {f"{what}_challenge": _in(page, f"{what}_challenge")}
        url = f"{self.admin}/admin/oauth2/auth/requests/{what}/accept"
        accepted = requests.put(url, params=challenge, json=answer, timeout=60)
        assert accepted.status_code == 200, accepted.text
        return browser.get(accepted.json()["redirect_to"], allow_redirects=False, timeout=60)

    def client_credentials(self, client_id: str) -> str:
        """An access token of the app itself: of no patient."""
        form = {
            "grant_type": "client_credentials",
            "scope": "patient/ImagingStudy.rs",
            "audience": AUDIENCE,
        }
        return str(self._token(client_id, **form)["access_token"])

    def _token(self, client_id: str, **form: str) -> dict[str, Any]:
        answer = requests.post(
            self.configuration["token_endpoint"], form, auth=(client_id, SECRET), timeout=60
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def introspect(self, token: str) -> dict[str, Any]:
        """What it says of a token."""
        answer = requests.post(
            self.configuration["introspection_endpoint"], {"token": token}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def token(self, *, jwt: bool) -> str:
        """An access token of ``PATIENT``."""
        return self.launch("jwt" if jwt else "opaque").access

    def revoke(self, token: str) -> None:
        """Revoke it (RFC 7009)."""
        client_id = self.introspect(token)["client_id"]
        endpoint = self.configuration["revocation_endpoint"]
        answer = requests.post(endpoint, {"token": token}, auth=(client_id, SECRET), timeout=60)
        assert answer.status_code == 200, answer.text


def _in(page: requests.Response, name: str) -> str:
    """What the redirect has under this name."""
    assert "Location" in page.headers, page.text
    found = parse_qs(urlsplit(page.headers["Location"]).query)
    assert name in found, page.headers["Location"]
    return found[name][0]


def _as_on_the_loopback(cookies: CookieJar) -> None:
    """Browsers send Secure cookies there."""
    for cookie in cookies:
        cookie.secure = False
