"""Print an access token of the realm's user amy (patient p1), got as an app gets it.

It logs in with her password and redeems a code with PKCE. An app leaves the login page to a
browser. This is a tool for a trial, and no way to log in.
"""

import argparse
import base64
import hashlib
import html
import json
import re
import secrets
import sys
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

CLIENT, CALLBACK = "viewer", "https://viewer.example.org/callback"


class NoRedirect(HTTPRedirectHandler):
    """Follow no redirect: the code is in the address of the redirect."""

    def redirect_request(
        self,
        request: Request,
        stream: IO[bytes],
        code: int,
        message: str,
        headers: HTTPMessage,
        target: str,
    ) -> None:
        """Follow none."""


OPENER = build_opener(ProxyHandler({}), NoRedirect())


def token(realm_url: str, username: str, password: str, scope: str) -> str:
    """Return an access token: log in and redeem the code."""
    endpoint = f"{realm_url}/protocol/openid-connect"
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": CALLBACK,
        "scope": scope,
        "state": "trial",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    with OPENER.open(f"{endpoint}/auth?{urlencode(query)}", timeout=30) as page:
        cookies = [line.partition(";")[0] for line in page.headers.get_all("Set-Cookie", [])]
        form = re.search(r'<form id="kc-form-login"[^>]*action="([^"]+)"', page.read().decode())
    if form is None:
        raise SystemExit("no login form")
    credentials = urlencode({"username": username, "password": password}).encode()
    try:
        OPENER.open(
            Request(html.unescape(form[1]), credentials, {"Cookie": "; ".join(cookies)}), timeout=30
        ).close()
        raise SystemExit("the login was refused")
    except HTTPError as redirect:
        code = parse_qs(urlsplit(redirect.headers.get("Location", "")).query).get("code")
    if code is None:
        raise SystemExit("the login brought no code")
    redeemed = {
        "grant_type": "authorization_code",
        "client_id": CLIENT,
        "code": code[0],
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
    }
    with OPENER.open(f"{endpoint}/token", urlencode(redeemed).encode(), timeout=30) as answer:
        return str(json.load(answer)["access_token"])


def main() -> int:
    """Print the token, and nothing else."""
    parser = argparse.ArgumentParser(description="Print an access token.")
    parser.add_argument("--realm-url", default="http://keycloak:8080/realms/hospital")
    parser.add_argument("--username", default="amy")
    parser.add_argument("--password-file", type=Path, default=Path("/run/secrets/user_password"))
    parser.add_argument("--scope", default="launch/patient patient/ImagingStudy.rs")
    arguments = parser.parse_args()
    password = arguments.password_file.read_text().strip()
    print(token(arguments.realm_url, arguments.username, password, arguments.scope))
    return 0


if __name__ == "__main__":
    sys.exit(main())
