"""Why an OAuth server refuses us: its code is told, its free text is not."""

from typing import Any

import aiohttp
import pytest

from sidecar.common.fetch import fetch
from sidecar.ehr.oauth_error import status_and_error
from tests.common.peer import Peer, Reply

SECRET = "a-recognizable-secret"


@pytest.mark.parametrize(
    ("body", "challenge", "told"),
    [
        ({"error": "invalid_client", "error_description": SECRET}, None, ", invalid_client"),
        ({"error": "invalid_scope"}, 'Basic realm="x"', ", invalid_scope"),
        (
            {},
            f'Bearer realm="x", error="insufficient_scope", scope="{SECRET}"',
            ", insufficient_scope",
        ),
        ("", 'Bearer error="invalid_token"', ", invalid_token"),
        ({"error": SECRET}, f'Bearer error="{SECRET}"', ""),
        ({"error": ["invalid_client"]}, None, ""),
        ({"error": {"code": "invalid_client"}}, None, ""),
        (["invalid_client"], None, ""),
        ("<html>invalid_client", None, ""),
        ({"error": "invalid_client", "x": " " * 40_000}, None, ""),
        ('{"error": "invalid_client", "error": "invalid_scope"}', None, ""),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_is_told(
    peer: Peer, session: aiohttp.ClientSession, body: Any, challenge: str | None, told: str
) -> None:
    headers = {} if challenge is None else {"WWW-Authenticate": challenge}
    peer.say(Reply(body, 401, headers))
    answer = await fetch(session, "GET", peer.url, limit_bytes=100_000, timeout_seconds=60)
    assert status_and_error(answer) == "status 401" + told
