"""The demo's EHR: authorization with PKCE, the consent page, and checked redirects."""

import base64
import hashlib
import re
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from sidecar.demo.ehr.authorize import redirect_origin
from sidecar.demo.people import PATIENTS
from tests.demo.ehr_server import (
    BACKEND_ID,
    FOREIGN,
    IMAGING,
    INTROSPECTION_ID,
    PAGE,
    SCOPE,
    VERIFIER,
    Change,
    Ehr,
    Page,
    answered,
    s256,
)


async def test_the_whole_flow(ehr: Ehr) -> None:
    """SMART App Launch 2.2 "Standalone Launch": discovery, consent, code, token, introspection,
    Patient.
    """
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
    assert (status, given) == (
        200,
        {"token_type": "Bearer", "expires_in": 3600, "scope": SCOPE, "patient": "peter"},
    )
    said = await ehr.introspect(token)
    assert said.pop("exp") - said.pop("iat") == 3600
    assert said == {
        "active": True,
        "scope": SCOPE,
        "client_id": "app",
        "iss": smart["issuer"],
        "token_type": "Bearer",
        "patient": "peter",
    }
    assert await ehr.patient("peter", token) == 200
    assert [await ehr.patient(other, token) for other in ("robin", "nobody")] == [403, 403]


async def test_an_authorization_request_may_be_posted(ehr: Ehr) -> None:
    """SMART capability ``authorize-post``; ``aud`` may be the imaging server too, and the page may
    be the demo's.
    """
    for changes in ({"aud": IMAGING}, {"aud": f"{ehr.url}/fhir/"}, {"redirect_uri": f"{PAGE}/"}):
        response = await ehr.post("/authorize", ehr.request(**changes))
        assert (response.status, response.content_type) == (200, "text/html")


async def test_a_person_may_allow_less(ehr: Ehr) -> None:
    """What is unchecked is not granted; without launch/patient there is no patient (SIA-14)."""
    page = await ehr.page(scope="patient/ImagingStudy.rs patient/Patient.r launch/patient email")
    assert "email" not in page.scopes
    less = answered(
        await ehr.answer(page, change=lambda form: form | {"scope": ["patient/ImagingStudy.rs"]})
    )
    _, given = await ehr.token(code=less["code"])
    assert given["scope"] == "patient/ImagingStudy.rs"
    assert "patient" not in given
    assert "patient" not in await ehr.introspect(given["access_token"])


@pytest.mark.parametrize(
    "change", [lambda form: form | {"decision": "deny"}, lambda form: form | {"scope": []}]
)
async def test_a_person_may_say_no(ehr: Ehr, change: Change) -> None:
    """RFC 6749 4.1.2.1."""
    back = answered(await ehr.answer(await ehr.page(), change=change))
    assert (back["error"], back["state"], "code" in back) == ("access_denied", "s t&", False)


@pytest.mark.parametrize(
    "changes",
    [*({"redirect_uri": uri} for uri in [*FOREIGN, None])]
    + [
        {"client_id": one}
        for one in (None, "", "<script>", "a b", BACKEND_ID, INTROSPECTION_ID, "x" * 200)
    ],
)
async def test_nobody_is_redirected_to_an_unchecked_place(
    ehr: Ehr, changes: dict[str, str | None]
) -> None:
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
    [
        *"@:/\\?#.%;&[]",
        "//",
        "%2f",
        "%40",
        " ",
        "\t",
        "evil.example",
        "127.0.0.1",
        "8080",
        "ü",
        "．",
    ]
)


@given(
    st.builds(
        lambda scheme, host, rest: f"{scheme}://{host}{''.join(rest)}",
        st.sampled_from(["http", "https", "HTTP", "ftp"]),
        HOSTS,
        st.lists(PIECES, max_size=6),
    )
)
@example("http://127.0.0.1:1")
def test_a_redirect_uri_that_passes_leads_home_by_every_parser(uri: str) -> None:
    """Whatever is put together: two other URL parsers agree on the host, and it is this machine or
    the page.
    """
    origin = redirect_origin(uri, PAGE)
    if origin is None:
        return
    try:
        hosts = {urlsplit(uri).hostname, URL(uri).host, urlsplit(origin).hostname}
        port = urlsplit(uri).port
    except ValueError:  # No such port: browsers go nowhere.
        return
    home = (
        {"127.0.0.1", "localhost", "::1"} if uri.startswith("http:") else {urlsplit(PAGE).hostname}
    )
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
        ({"scope": "email system/*.rs user/*.rs"}, "invalid_scope"),
        ({"nonce": "ü"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"prompt": "login none"}, "login_required"),
        ({"scope": "launch/patient\npatient/*.rs"}, "invalid_scope"),
    ],
)
async def test_a_wrong_request_goes_back_to_the_app(
    ehr: Ehr, changes: dict[str, str | None], error: str
) -> None:
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
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "form-action 'self' http://127.0.0.1:5173",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
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
    assert (response.status, response.content_type, "Location" in response.headers) == (
        400,
        "text/html",
        False,
    )


async def test_a_form_cannot_change_where_the_code_goes(ehr: Ehr) -> None:
    """The request is kept at the EHR: the form's own redirect_uri or challenge is nobody's."""
    extra = {
        "redirect_uri": "http://127.0.0.1:9/evil",
        "code_challenge": s256("w" * 43),
        "client_id": "evil",
    }
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
