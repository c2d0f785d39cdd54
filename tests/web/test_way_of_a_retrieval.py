"""How much of the code a retrieval goes through: whoever follows one has to read as much."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import aiohttp

import sidecar
from tests.fakes.archive import INSTANCE, SERIES, ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import PATH, answer
from tests.fakes.site import HEADERS, sidecar_between

ROOT = Path(sidecar.__file__).parent
MOST_FILES, MOST_CLASSES = 48, 46
"""They only fall: what a change adds to the way it takes away elsewhere."""
BODY = (
    b"--abc\r\nContent-Type: application/octet-stream\r\n\r\n" + bytes(5_000) + b"\r\n--abc--\r\n"
)
FRAME = answer(
    b'Content-Type: multipart/related; type="application/octet-stream"; boundary=abc\r\n'
    b"Content-Length: %d\r\n" % len(BODY),
    BODY,
)


@contextmanager
def entered() -> Iterator[set[CodeType]]:
    """Collect the functions of ours that are called while the block runs."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            codes.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield codes
    finally:
        sys.setprofile(before)


async def test_a_warm_retrieval_enters_no_more_than_it_did() -> None:
    accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(FRAME)) as (url, _),
        aiohttp.ClientSession(headers=HEADERS | accept) as client,
    ):
        path = f"{url}{PATH}/series/{SERIES}/instances/{INSTANCE}/frames/1"
        for _ in range(3):
            async with client.get(path) as response:
                assert await response.read() == BODY
        with entered() as codes:
            async with client.get(path) as response:
                assert response.status == 200
                await response.read()
            for _ in range(20):  # What follows an answer: its place, its line in the log.
                await asyncio.sleep(0)
    names = {(code.co_filename, code.co_qualname.partition(".<locals>")[0]) for code in codes}
    files = {Path(file).relative_to(ROOT) for file, _ in names}
    classes = {(file, name.rpartition(".")[0]) for file, name in names if "." in name}
    assert len(files) > 20
    assert len(files) <= MOST_FILES, sorted(map(str, files))
    assert len(classes) <= MOST_CLASSES, sorted(name for _, name in classes)
