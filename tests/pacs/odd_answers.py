"""A sidecar before an archive that answers oddly."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from sidecar.bootstrap.build import Sidecar
from tests.fakes.ehr import TOKEN, ScriptedEhr
from tests.fakes.odd_archive import PATHS, OddArchive, Sent
from tests.fakes.site import sidecar_between

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OK, RESET = 200, 0
Odd = Callable[[Sent], Sent]
Got = tuple[int, dict[str, str], bytes]


@contextlib.asynccontextmanager
async def asking(
    archive: OddArchive,
) -> AsyncIterator[tuple[Callable[..., Awaitable[Got]], Sidecar]]:
    """Yields what asks the sidecar for one of ``PATHS``; an answer that breaks off has the status
    ``RESET``.
    """

    async def ask(kind: str, **headers: str) -> Got:
        async with session.get(
            url + "/wado-rs" + PATHS.get(kind, kind), headers=HEADERS | headers
        ) as response:
            try:
                return response.status, dict(response.headers), await response.read()
            except aiohttp.ClientError:
                return RESET, dict(response.headers), b""

    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, sidecar),
        aiohttp.ClientSession() as session,
    ):
        yield ask, sidecar


def only(kind: str, odd: Odd) -> Odd:
    """Change answers of this kind alone."""
    return lambda answer: odd(answer) if answer.kind == kind else answer
