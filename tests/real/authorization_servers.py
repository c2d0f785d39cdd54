"""Real authorization servers of a test's own: Keycloak with the realm of config/keycloak, and
oidc-provider.
"""

import base64
import fcntl
import hashlib
import html
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, urlsplit

import requests

from tests.real.processes import end
from tests.sidecar_process import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
AUDIENCE = "https://imaging.hospital.example.org/fhir"
APP, US, SECRET = "viewer", "imaging-sidecar", "change-this-secret"
PATIENT = "p1"
KEY_ID = "imaging-sidecar-1"
KEYCLOAK_VERSION = "26.0.7"
KEYCLOAK = ROOT / "build" / f"keycloak-{KEYCLOAK_VERSION}"
NO_KEYCLOAK = (
    f"no Keycloak in {KEYCLOAK.relative_to(ROOT)}: make keycloak (needs Maven and Java 17 or later)"
)
OIDC_PROVIDER = Path(__file__).parent / "oidc_provider"
NO_OIDC_PROVIDER = "no oidc-provider: make oidc-provider (needs npm)"


class AuthorizationServer(Protocol):
    """What the tests need of each: ``configuration`` is what the EHR's smart-configuration says of
    it.
    """

    configuration: dict[str, str]

    def token(self, *, jwt: bool) -> str:
        """Get an access token for the app, of ``PATIENT``; ``jwt``: as a signed JWT."""

    def revoke(self, token: str) -> None:
        """Revoke it."""


START_SECONDS = 900
"""Keycloak is a build and a Java machine."""


class Process:
    """A server as a child, with a folder of its own that goes with it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="authorization-server-")
        self.folder = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], ready: str, **environment: str) -> None:
        """Start it and wait until ``ready`` (a URL) answers 200."""
        log = self.folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment
            )

        def status() -> int:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"it did not start:\n{said()}")
            return requests.get(ready, timeout=60).status_code

        def said() -> str:
            return log.read_text(errors="replace")[-4_000:]

        try:
            wait_until(
                ready,
                status,
                lambda found: found == 200,
                not_yet=(requests.ConnectionError, requests.Timeout),
                explain=said,
                seconds=START_SECONDS,
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            end(self._process)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class OidcProvider(Process):
    """``oidc-provider`` of npm; ``public_key`` is ours, as a JWK."""

    def __init__(self, public_key: dict[str, Any], signing_key: dict[str, Any]) -> None:
        super().__init__()
        grants = {"grant_types": ["client_credentials"], "redirect_uris": [], "response_types": []}
        ours = grants | {"grant_types": []}
        configuration = {
            "port": self.port,
            "audience": AUDIENCE,
            "jwks": {"keys": [signing_key]},
            "patients": {APP: PATIENT},
            "clients": [
                {"client_id": APP, "client_secret": SECRET, **grants},
                {"client_id": US, "client_secret": SECRET, **ours},
                {
                    "client_id": "post",
                    "client_secret": SECRET,
                    "token_endpoint_auth_method": "client_secret_post",
                }
                | ours,
                {
                    "client_id": "signed",
                    "client_secret": SECRET,
                    "introspection_signed_response_alg": "RS256",
                }
                | ours,
                {
                    "client_id": "key",
                    "token_endpoint_auth_method": "private_key_jwt",
                    "jwks": {"keys": [public_key]},
                    "token_endpoint_auth_signing_alg": "RS384",
                }
                | ours,
            ],
        }
        file = self.folder / "configuration.json"
        file.write_text(json.dumps(configuration))
        discovery = self.url + "/.well-known/openid-configuration"
        node = shutil.which("node") or "node"
        self.start([node, str(OIDC_PROVIDER / "server.mjs"), str(file)], discovery)
        self.configuration: dict[str, str] = requests.get(discovery, timeout=60).json()

    def token(self, *, jwt: bool) -> str:
        """By client credentials: how an app came by its token is not what is tested."""
        form = {"grant_type": "client_credentials", "scope": "patient/ImagingStudy.rs"}
        form["resource"] = AUDIENCE + ("/jwt" if jwt else "/opaque")
        answer = requests.post(
            self.configuration["token_endpoint"], form, auth=(APP, SECRET), timeout=60
        )
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["access_token"]
        return found

    def revoke(self, token: str) -> None:
        """Revoke it (RFC 7009)."""
        endpoint = self.configuration["revocation_endpoint"]
        assert (
            requests.post(endpoint, {"token": token}, auth=(APP, SECRET), timeout=60).status_code
            == 200
        )


class Keycloak(Process):
    """Keycloak with the realm of ``config/keycloak/hospital.json``; ``changed`` may add clients to
    it.
    """

    def __init__(self, changed: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        admin = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": "of-the-tests",
            # It gives its own database 5 s, which a busy machine may not.
            "QUARKUS_DATASOURCE_JDBC_ACQUISITION_TIMEOUT": "300S",
        }
        command = [
            str(KEYCLOAK / "bin" / "kc.sh"),
            "start-dev",
            "--http-host=127.0.0.1",
            f"--http-port={self.port}",
            "--db=dev-mem",
        ]
        # It builds itself, in its own folder, which other workers use as well.
        with (KEYCLOAK.parent / "keycloak.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.start(command, self.url + "/realms/master", **admin)
        realm = json.loads((ROOT / "config" / "keycloak" / "hospital.json").read_text())
        changed(realm)
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": "admin",
            "password": "of-the-tests",
        }
        answer = requests.post(
            self.url + "/realms/master/protocol/openid-connect/token", form, timeout=60
        )
        headers = {"Authorization": "Bearer " + answer.json()["access_token"]}
        made = requests.post(self.url + "/admin/realms", json=realm, headers=headers, timeout=60)
        assert made.status_code == 201, made.text
        discovery = self.url + "/realms/hospital/.well-known/openid-configuration"
        self.configuration: dict[str, str] = requests.get(discovery, timeout=60).json()

    def token(
        self, *, jwt: bool, scope: str = "launch/patient patient/ImagingStudy.rs", user: str = "amy"
    ) -> str:
        """An access token; they are JWTs always."""
        return str(self.launch(scope, user)["access_token"])

    def launch(self, scope: str, user: str = "amy") -> dict[str, Any]:
        """What an app gets: the user logs in on Keycloak's page, the app redeems the code with
        PKCE.
        """
        verifier = secrets.token_urlsafe(48)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
            .rstrip(b"=")
            .decode()
        )
        callback = "https://viewer.example.org/callback"
        browser = requests.Session()
        page = browser.get(
            self.configuration["authorization_endpoint"],
            params={
                "response_type": "code",
                "client_id": APP,
                "redirect_uri": callback,
                "scope": scope,
                "state": "x",
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                "aud": AUDIENCE,
            },
            timeout=60,
        )
        form = re.search(r'<form id="kc-form-login"[^>]*action="([^"]+)"', page.text)
        assert form, page.text[:1_000]
        for cookie in browser.cookies:
            cookie.secure = False  # As browsers do on the loopback.
        fields = {"username": user, "password": "change-this-password"}
        done = browser.post(html.unescape(form[1]), fields, allow_redirects=False, timeout=60)
        code = parse_qs(urlsplit(done.headers["Location"]).query)["code"][0]
        redeemed = requests.post(
            self.configuration["token_endpoint"],
            {
                "grant_type": "authorization_code",
                "client_id": APP,
                "code": code,
                "redirect_uri": callback,
                "code_verifier": verifier,
            },
            timeout=60,
        )
        assert redeemed.status_code == 200, redeemed.text
        found: dict[str, Any] = redeemed.json()
        return found

    def revoke(self, token: str) -> None:
        """Revoke it (RFC 7009)."""
        endpoint = self.configuration["revocation_endpoint"]
        answer = requests.post(endpoint, {"token": token, "client_id": APP}, timeout=60)
        assert answer.status_code == 200, answer.text
