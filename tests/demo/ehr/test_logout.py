"""The demo's EHR ends what it gave, and leads a browser back."""

import pytest

from tests.demo.ehr_server import FOREIGN, SCOPE, Ehr


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_a_revoked_token_ends_with_all_that_came_with_it(ehr: Ehr, which: str) -> None:
    """RFC 7009 2.1, 2.2: for its own client alone, with one answer for each token."""
    given = await ehr.logged_in(f"{SCOPE} offline_access")
    token = given["access_token"]
    for form, status, is_active in (
        ({"token": given[which], "client_id": "other"}, 200, True),
        ({"token": "unknown", "client_id": "app"}, 200, True),
        ({"token": given[which]}, 400, True),
        ({"client_id": "app"}, 400, True),
        ({"token": given[which], "client_id": "app", "client_secret": "x"}, 401, True),
        ({"token": given[which], "client_id": "app"}, 200, False),
        ({"token": given[which], "client_id": "app"}, 200, False),
    ):
        assert (await ehr.post("/revoke", form)).status == status, form
        assert (await ehr.introspect(token))["active"] is is_active, form
    assert (await ehr.refresh(given["refresh_token"]))[0] == 400


async def test_a_logout_leads_back_to_the_app(ehr: Ehr) -> None:
    """OpenID Connect RP-Initiated Logout 1.0 section 3; the state comes back encoded."""
    for query, location in (
        ({}, "http://127.0.0.1:3000/"),
        ({"state": "a b&c"}, "http://127.0.0.1:3000/?state=a+b%26c"),
    ):
        back = {"post_logout_redirect_uri": "http://127.0.0.1:3000/", "id_token_hint": "x"} | query
        answer = await ehr.get("/logout", params=back)
        assert (answer.status, answer.headers["Location"]) == (303, location)


@pytest.mark.parametrize("uri", [*FOREIGN, None])
async def test_a_logout_leads_nowhere_else(ehr: Ehr, uri: str | None) -> None:
    answer = await ehr.get(
        "/logout", params={} if uri is None else {"post_logout_redirect_uri": uri}
    )
    assert (answer.status, "Location" in answer.headers) == (400, False)
    doubled = await ehr.get("/logout", params=[("state", "a"), ("state", "b")])
    assert (doubled.status, "Location" in doubled.headers) == (400, False)
