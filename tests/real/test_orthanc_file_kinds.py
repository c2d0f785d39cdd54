"""Each kind of file in a real Orthanc: what passes comes unchanged; what is refused is named, the
rest can be had.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import aiohttp
import pytest

from tests.dicom.file_kinds import File, Names
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Served
from tests.tables.file_kinds import KINDS, NAMES

pytestmark = pytest.mark.orthanc
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*',
}
# Beside others it may walk a file of two million elements for minutes.
SETTINGS: dict[str, Any] = {
    "pacs": {"dialect": "orthanc"},
    "limits": {"pacs_timeout_seconds": 900},
}
# Of two patients, as Orthanc has it: a 404 before anything is looked into (docs/authorization.md).
OF_NOBODY = frozenset(
    {
        "no PatientID",
        "an empty PatientID",
        # By dcmtk it is the patient behind the delimiter.
        "a private implicit sequence with an early delimiter",
    }
)
# Other bytes are another patient to Orthanc: study and series have their UIDs twice there, and it
# gives neither whole.
TWO_STUDIES = frozenset({"PatientID of odd length", "PatientID between spaces"})
REPORTED = (
    "a group length too short by 6",
    "a group length before the last elements",
    "group 2 again",
    "a transfer syntax with a space",
    "no file meta",
    "PatientID of VR SH",
    "PatientID of VR ST",
    "PatientID twice",
    "VR ?? behind the header",
    "an element out of order before SeriesInstanceUID",
    "over 4 MiB of private data first",
    "GE's private syntax",
)
"""Kinds that were seen in the field, and that this Orthanc takes."""


def plain(names: Names) -> bytes:
    """A file that nothing is odd about."""
    return File().data(File().pieces(names))


def written(name: str) -> bytes:
    """A file of this kind."""
    file = KINDS[name].file
    return file.data(file.pieces(NAMES[name]))


def siblings(name: str) -> tuple[Names, Names]:
    """Two more instances of the study: of the same series, and of another one."""
    number = NAMES[name].number
    return Names(number, image="9"), Names(number, group="2")


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    require_orthanc()
    with Orthanc() as running:
        yield running


NOT_TAKEN = {
    "deflated and broken",
    "a group length before the last elements, implicit",
    "a group length over several elements",
    "group 2 again, before implicit elements",
    "a command set first",
    "PatientID of VR OB",
    "PatientID of 2 KB",
    "no StudyInstanceUID",
    "VR OX behind the header",
    "an undefined length of OB",
    "an item outside of a sequence",
    "JPEG without its last delimiter",
    "JPEG, cut in a fragment with a delimiter",
    "cut in the pixel data",
    "cut before StudyInstanceUID",
    "an icon item short by 24",
    "an icon item short by 24 in a whole sequence, a delimiter in the rest",
    "an icon item short by 24, and another item",
    "an item longer than its sequence, behind the header",
    "an element longer than the sequence around it, behind the header",
    "an item longer than the sequence around it, behind the header",
    "an icon's fragment longer than the sequence around it",
    "cut in a head that goes beyond its sequence",
    "an icon item short by 24, and its sequence",
    "an icon item short by 24 in a whole sequence",
    "an item longer than its sequence",
    "no item in a sequence",
    "a delimiter in an item",
    "PatientID at the end, cut",
    "PatientID at the end, longer than the file",
    "text at the end",
}
"""Kinds that Orthanc 1.10 does not store, so that it can never send them."""


def store(orthanc: Orthanc, name: str) -> bool:
    """Store an instance of this kind between its siblings; return whether Orthanc takes it."""
    same, other = siblings(name)
    try:
        orthanc.load(plain(same))
        orthanc.load(written(name))
    except HTTPError:
        return False
    orthanc.load(plain(other))
    return True


@pytest.mark.parametrize("name", REPORTED)
def test_it_takes_what_was_reported(orthanc: Orthanc, name: str) -> None:
    """Else the test below would show nothing of them."""
    assert store(orthanc, name)


@pytest.mark.parametrize("name", KINDS)
async def test_what_passes_comes_unchanged_and_what_is_refused_is_named(
    orthanc: Orthanc, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if not await asyncio.to_thread(store, orthanc, name):
        assert name in NOT_TAKEN
        return
    caplog.set_level(logging.INFO)
    names, (same, other), kind = NAMES[name], siblings(name), KINDS[name]
    async with (
        sidecar_between(ScriptedEhr(), Served(orthanc), **SETTINGS) as (url, _),
        aiohttp.ClientSession() as us,
    ):

        async def get(path: str) -> tuple[int, bytes]:
            """Status and body; 0: broken off."""
            root = f"{url}/fhir/Patient/{PATIENT}/$wado-rs/studies/{names.study}"
            try:
                async with us.get(root + path, headers=HEADERS) as response:
                    return response.status, await response.read()
            except aiohttp.ClientError:
                return 0, b""

        whole = await get("")
        series = await get(f"/series/{names.series}")
        instance = await get(f"/series/{names.series}/instances/{names.instance}")
        rest = await get(f"/series/{other.series}")
        neighbour = await get(f"/series/{same.series}/instances/{same.instance}")
    if name in OF_NOBODY:
        assert {whole[0], series[0], instance[0], rest[0], neighbour[0]} == {404}
        return
    assert (rest[0], plain(other) in rest[1]) == (200, True)
    assert (neighbour[0], plain(same) in neighbour[1]) == (200, True)
    if not kind.rule:
        at_once = (404, False) if name in TWO_STUDIES else (200, True)
        found = [(status, written(name) in body) for status, body in (whole, series, instance)]
        assert found == [at_once, at_once, (200, True)]
        return
    assert whole[0] in (0, 502)
    assert series[0] in (0, 502)
    assert instance[0] in (0, 502)
    lines = [vars(record) for record in caplog.records if "rule" in vars(record)]
    assert {line["rule"] for line in lines} <= set(kind.rule.split(" or "))
    # In the study and the series it is the one or the other; alone it is the first.
    assert [line["kind"] for line in lines] == ["study", "series", "instance"]
    assert [
        line["position"] in range(1, most + 1) for line, most in zip(lines, (3, 2, 1), strict=True)
    ] == [True] * 3
