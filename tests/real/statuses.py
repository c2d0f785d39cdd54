"""What searches answer to tokens of a real authorization server."""

import asyncio
from typing import Any

import aiohttp

from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.authorization_servers import (
    PATIENT,
    AuthorizationServer,
)


async def _never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raise AssertionError("nobody retrieves here")


async def statuses(
    server: AuthorizationServer, tokens: dict[str, Any], *presented: str
) -> list[int]:
    """What searches answer: of the token's own patient with each token; then of another with the
    first one.
    """
    searches = [(PATIENT, token) for token in presented] + [("p2", presented[0])]
    changes = {"tokens": tokens}
    found = []
    async with (
        sidecar_between(
            ScriptedEhr(configuration=server.configuration), ScriptedPacs(_never), **changes
        ) as (url, _),
        aiohttp.ClientSession() as us,
    ):
        for patient, token in searches:
            headers = {"Authorization": f"Bearer {token}"}
            async with us.get(
                f"{url}/fhir/ImagingStudy?patient={patient}", headers=headers
            ) as answer:
                body = await answer.json()
                if answer.status == 200:
                    assert body["total"] == 1
                found.append(answer.status)
    return found
