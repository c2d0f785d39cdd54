"""dcm4chee behind Keycloak: our own token goes there, the client's never does."""

from pathlib import Path

from tests.dcm4chee.behaviour import Behaviour
from tests.dcm4chee.site import STORED, SYSTEM_A, site_with, token_of
from tests.dcm4chee.studies import LARGE, MRN

PATIENTS = {"alice": [(SYSTEM_A, MRN)]}
SERVICE_TOKEN = "the-service-accounts-token"
WALK = [
    "/fhir/ImagingStudy?patient=alice",
    "/wado-rs/studies",
    f"/wado-rs/studies/{LARGE}/series",
    f"/wado-rs/studies/{LARGE}",
    f"/wado-rs/studies/{LARGE}/metadata",
]


async def test_our_token_is_sent_and_the_clients_is_not(many: Path) -> None:
    behaviour = Behaviour(bearer_token=SERVICE_TOKEN)
    auth = {"auth": {"method": "bearer", "token": SERVICE_TOKEN}}
    async with site_with(many, behaviour, PATIENTS, pacs=auth) as site:
        for path in WALK:
            headers = (STORED if path.endswith(LARGE) else {}) | {
                "Cookie": "session=1",
                "X-Request-Id": "abc-12345",
            }
            response, _ = await site.get("alice", path, headers)
            assert response.status == 200, path
    assert len(behaviour.asked) > len(WALK)
    for one in behaviour.asked:
        assert one.headers["authorization"] == f"Bearer {SERVICE_TOKEN}"
        assert token_of("alice") not in one.target + str(one.headers)
        assert "cookie" not in one.headers


async def test_a_token_that_the_archive_refuses_is_our_fault_not_the_clients(many: Path) -> None:
    """Not a 401: the client's own token is fine."""
    auth = {"auth": {"method": "bearer", "token": "out-of-date"}}
    async with site_with(many, Behaviour(bearer_token=SERVICE_TOKEN), PATIENTS, pacs=auth) as site:
        for path in WALK:
            response, body = await site.get("alice", path)
            assert response.status == 502
            assert "WWW-Authenticate" not in response.headers
            assert b"out-of-date" not in body
