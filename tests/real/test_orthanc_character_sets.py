"""A real Orthanc with its character sets: whose number it is, for every form (SIA-42), and what
rules see (SIA-16).
"""

import asyncio
import json
import random
import unicodedata
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.dicomweb.paths import Query
from sidecar.pacs.client import PacsClient
from sidecar.pacs.dialects import DIALECTS
from tests.fakes.site import sidecar_between
from tests.permits import ASKED
from tests.real.character_sets import (
    ENCODINGS,
    HIDDEN,
    LISTED,
    PATIENTS,
    TABLE,
    Seen,
    ehr_of,
    file,
    study_uid,
)
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Served

pytestmark = pytest.mark.orthanc

MULTIPART = "multipart/related"
AT_ONCE = 6


class Client:
    """What patients of an Orthanc get through a sidecar."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def get(self, patient: int, path: str, accept: str = "*/*") -> tuple[int, bytes]:
        """The status and body of an answer; 0 for one that was broken off."""
        headers = {"Authorization": f"Bearer token-{patient}", "Accept": accept}
        async with self._turns:
            try:
                async with self._session.get(self.url + path, headers=headers) as response:
                    return response.status, await response.read()
            except aiohttp.ClientPayloadError:
                return 0, b""

    async def status(self, patient: int, path: str, accept: str = "*/*") -> int:
        """The status alone."""
        return (await self.get(patient, path, accept))[0]

    async def listed(self, patient: int) -> set[str]:
        """The studies that QIDO-RS and FHIR list, which are the same ones; none where they are
        refused.
        """
        status, body = await self.get(patient, "/wado-rs/studies")
        fhir_status, bundle = await self.get(patient, "/fhir/ImagingStudy?_count=200")
        assert fhir_status == status
        if status != 200:
            assert status == 502
            return set()
        rows = {row["0020000D"]["Value"][0] for row in json.loads(body)}
        assert {entry["resource"]["id"] for entry in json.loads(bundle).get("entry", ())} == rows
        return rows


@asynccontextmanager
async def sidecar(
    orthanc: Orthanc, numbers: Sequence[str], **sections: dict[str, Any]
) -> AsyncIterator[Client]:
    """A sidecar before this Orthanc, for the patients with these numbers."""
    changes: dict[str, dict[str, Any]] = {
        "patients": PATIENTS,
        "pacs": {"dialect": "orthanc"},
        **sections,
    }
    changes["server"] = {"public_url": "http://sidecar.example.org", "wado_uri": True}
    async with (
        sidecar_between(ehr_of(numbers), Served(orthanc), **changes) as (url, _),
        aiohttp.ClientSession() as session,
    ):
        yield Client(url, session)


def load(orthanc: Orthanc, files: Sequence[bytes]) -> None:
    """Store them."""
    for one in files:
        orthanc.load(one)


def places(orthanc: Orthanc) -> dict[str, tuple[str, str]]:
    """The series and instance of each study, by its UID; UIDs need no character set."""
    rows = orthanc.get_json("/dicom-web/instances")
    return {
        row["0020000D"]["Value"][0]: (row["0020000E"]["Value"][0], row["00080018"]["Value"][0])
        for row in rows
    }


# What each form is asked with, and the status when it is the patient's own. This Orthanc draws
# instances alone, and has neither thumbnails nor pixel data of their own, nor bulk data of more
# than an instance.
FORMS: dict[str, tuple[str, str, set[int]]] = {
    "study": ("/wado-rs/studies/{0}", MULTIPART, {200}),
    "series": ("/wado-rs/studies/{0}/series/{1}", MULTIPART, {200}),
    "instance": ("/wado-rs/studies/{0}/series/{1}/instances/{2}", "application/dicom", {200}),
    "study metadata": ("/wado-rs/studies/{0}/metadata", "application/dicom+json", {200}),
    "series metadata": (
        "/wado-rs/studies/{0}/series/{1}/metadata",
        "application/dicom+json",
        {200},
    ),
    "instance metadata": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/metadata",
        "application/dicom+json",
        {200},
    ),
    "frames": ("/wado-rs/studies/{0}/series/{1}/instances/{2}/frames/1", MULTIPART, {200}),
    "rendered": ("/wado-rs/studies/{0}/series/{1}/instances/{2}/rendered", "image/png", {200}),
    "rendered frame": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/frames/1/rendered",
        "image/png",
        {200},
    ),
    "rendered series": ("/wado-rs/studies/{0}/series/{1}/rendered", "image/png", {200, 404, 406}),
    "rendered study": ("/wado-rs/studies/{0}/rendered", "image/png", {200, 404, 406}),
    "thumbnail": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/thumbnail",
        "image/png",
        {200, 404, 406},
    ),
    "bulk data": ("/wado-rs/studies/{0}/series/{1}/instances/{2}/bulkdata/7FE00010", "*/*", {200}),
    "pixel data": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/pixeldata",
        "*/*",
        {200, 404, 406},
    ),
    "WADO-URI": (
        "/wado-uri?requestType=WADO&studyUID={0}&seriesUID={1}&objectUID={2}",
        "image/png",
        {200},
    ),
    "WADO-URI instance": (
        (
            "/wado-uri?requestType=WADO&studyUID={0}&seriesUID={1}&objectUID={2}"
            "&contentType=application/dicom"
        ),
        "*/*",
        {200},
    ),
    "QIDO-RS series": ("/wado-rs/studies/{0}/series", "*/*", {200}),
    "QIDO-RS instances": ("/wado-rs/studies/{0}/series/{1}/instances", "*/*", {200}),
    "FHIR read": ("/fhir/ImagingStudy/{0}", "*/*", {200}),
}


def pairs(seed: int) -> list[tuple[str, str]]:
    """Numbers that differ in one character, of every plane and of the kinds that are easily taken
    for another.
    """
    chance = random.Random(seed)
    odd = [
        "\u0410",
        "\uff11",
        "\u0308",
        "\u200b",
        "\u200d",
        "\u2060",
        "\ufeff",
        "\u202e",
        "\u200f",
        "\u2066",
        "\u00ad",
        "\u00a0",
        "\u3000",
        "\u2009",
        "\u0660",
        "\u180e",
        "\ufe0f",
        "\u0131",
        "\u212a",
        "\ufffd",
        "\x85",
        "\ue000",
        "胸",
        "ß",
        "😀",
    ]
    odd += [
        chr(chance.randrange(max(plane << 16, 0x2000), 0xD800 if not plane else (plane + 1) << 16))
        for plane in (0, 1, 2, 3, 14, 15, 16)
    ]
    made = [(f"{n}A7", f"{n}" + _with(one, "A7", chance)) for n, one in enumerate(odd, start=100)]
    made += [
        ("200\u00c47", "200A\u03087"),
        ("201k", "201K"),
        ("202 7", "2027"),
        ("203 7", "203  7"),
        ("2047", "204*"),
        ("2057", "205?"),
        ("206胸部", "206胸"),
        ("207\u00c5X", "207\u212bX"),
        ("胸部", "部"),
        ("\u0416\u0416", "\u0416"),
    ]
    return made


def _with(odd: str, rest: str, chance: random.Random) -> str:
    at = chance.randrange(len(rest) + 1)
    return rest[:at] + odd + rest[at:]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_numbers_that_differ_in_any_character_are_two_patients(
    encoding: str, tmp_path: Path
) -> None:
    """For every form in which something can be had, in both directions, also with what the other
    just looked at.
    """
    require_orthanc()
    seed = random.randrange(2**32)
    couples = pairs(seed)
    numbers = [one for couple in couples for one in couple]
    assert len(set(numbers)) == len(numbers)
    with Orthanc({"DefaultEncoding": encoding}) as orthanc:
        for n, number in enumerate(numbers):
            load(
                orthanc, await asyncio.to_thread(file, tmp_path, n, b"ISO_IR 192", number.encode())
            )
        where = places(orthanc)
        assert len(where) == len(numbers)
        async with sidecar(orthanc, numbers) as client:

            async def ask(patient: int, other: int) -> list[str]:
                """What is wrong with what the patient gets of the other's study, or of its own."""
                study = study_uid(other)
                own = patient == other and _reaches(numbers[patient])
                found = []
                for form, (path, accept, expected) in FORMS.items():
                    status = await client.status(patient, path.format(study, *where[study]), accept)
                    if status not in (expected if own else {404}):
                        found.append(
                            f"{numbers[patient]!a} gets {form} of {numbers[other]!a}: {status}"
                        )
                if await client.listed(patient) != (
                    {study_uid(patient)} if _reaches(numbers[patient]) else set()
                ):
                    found.append(f"{numbers[patient]!a} is listed something else")
                return found

            for first, second in ((0, 0), (0, 1), (1, 0), (1, 1)):
                wrong = await asyncio.gather(
                    *(ask(2 * n + first, 2 * n + second) for n in range(len(couples)))
                )
                assert not [one for some in wrong for one in some], f"seed {seed}"


def _reaches(number: str) -> bool:
    """Whether a patient of this number reaches anything: one that cannot be asked for, or known,
    does not.
    """
    return PatientIdentifier(number).is_searchable() and "\ufffd" not in number


def test_the_pairs_are_of_every_kind() -> None:
    couples = pairs(1)
    assert all(one != other for one, other in couples)
    odd = {character for couple in couples for one in couple for character in one}
    assert {ord(one) >> 16 for one in odd} >= {0, 1, 2, 3, 14, 15, 16}
    assert {unicodedata.category(one) for one in odd} >= {
        "Mn",
        "Cf",
        "Zs",
        "Lo",
        "Lu",
        "Nd",
        "So",
        "Co",
        "Cc",
    }


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_the_table(encoding: str, tmp_path: Path) -> None:
    """Each file alone in an Orthanc of its own number of patients: what it says, and what we
    answer.
    """
    require_orthanc()
    with Orthanc({"DefaultEncoding": encoding}) as orthanc:
        wrong = []
        for n, case in enumerate(TABLE):
            load(
                orthanc, await asyncio.to_thread(file, tmp_path, n, case.character_set, case.stored)
            )
            async with sidecar(orthanc, [case.number, case.cut]) as client:
                found = (
                    await _says(orthanc, study_uid(n)),
                    *[await _seen(client, orthanc, one, n) for one in (0, 1)],
                )
            expected = case.latin1 if encoding == "Latin1" else case.utf8
            if found != expected:
                wrong.append(f"{case.name}: {found}, not {expected}")
            for patient in orthanc.get_json("/patients"):
                orthanc.delete(f"/patients/{patient}")
        assert not wrong, "\n".join(wrong)


RULE = {
    "rules": [
        {"name": "psychiatry", "effect": "exclude", "study": {"StudyDescription": ["*Психиатрия*"]}}
    ]
}
DESCRIPTIONS = {
    "CT Психиатрия": HIDDEN,
    "CT Thorax": LISTED,
    "胸部CT": LISTED,
    "MR психиатрия 2": HIDDEN,
    "Schädel": LISTED,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_rule_sees_what_is_written_there(encoding: str, tmp_path: Path) -> None:
    """And so does the patient, whose own number is not Latin-1: no text is cut."""
    require_orthanc()
    number = "胸\u041012345"
    with Orthanc({"DefaultEncoding": encoding}) as orthanc:
        for n, text in enumerate(DESCRIPTIONS):
            made = await asyncio.to_thread(
                file, tmp_path, n, b"ISO_IR 192", number.encode(), text.encode()
            )
            load(orthanc, made)
        async with sidecar(orthanc, [number], access=RULE) as client:
            status, body = await client.get(0, "/fhir/ImagingStudy")
            assert status == 200
            resources = [entry["resource"] for entry in json.loads(body)["entry"]]
            assert {one["description"] for one in resources} == {
                text for text, listed in DESCRIPTIONS.items() if listed
            }
            status, body = await client.get(0, "/wado-rs/studies?includefield=StudyDescription")
            assert {row["00081030"]["Value"][0] for row in json.loads(body)} == {
                text for text, listed in DESCRIPTIONS.items() if listed
            }
            where = places(orthanc)
            for n, listed in enumerate(DESCRIPTIONS.values()):
                path, accept, _ = FORMS["frames"]
                part = (study_uid(n), *where[study_uid(n)])
                assert await client.status(0, path.format(*part), accept) == (
                    200 if listed else 404
                )


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_all_fields_are_asked_for_with_their_character_set(
    encoding: str, tmp_path: Path
) -> None:
    """``includefield=all`` of Orthanc 1.10 does not count SpecificCharacterSet among all."""
    require_orthanc()
    with Orthanc({"DefaultEncoding": encoding}) as orthanc:
        load(orthanc, await asyncio.to_thread(file, tmp_path, 0, b"ISO_IR 192", "\u04101".encode()))
        async with aiohttp.ClientSession() as session:
            client = PacsClient(
                session, orthanc.dicomweb_url, DIALECTS["orthanc"], timeout_seconds=60
            )
            for fields in ([], [("includefield", "all")], [("includefield", "00100020")]):
                (row,) = await client.search(Query("studies"), fields, permit=ASKED)
                assert row["00100020"]["Value"] == ["\u04101"]


async def _says(orthanc: Orthanc, study: str) -> str | None:
    """The PatientID of a study in QIDO-RS; ``400`` where Orthanc does not say it."""
    url = f"/dicom-web/studies?StudyInstanceUID={study}&includefield=00100020,00080005"
    status, body = await asyncio.to_thread(orthanc.get, url)
    if status != 200:
        return str(status)
    (row,) = json.loads(body)
    value = row["00100020"].get("Value", [None])[0]
    assert value is None or isinstance(value, str)
    return value


async def _seen(client: Client, orthanc: Orthanc, patient: int, n: int) -> Seen:
    study = study_uid(n)
    part = (study, *places(orthanc)[study])
    statuses = {
        form: await client.status(patient, FORMS[form][0].format(*part), FORMS[form][1])
        for form in (
            "instance metadata",
            "frames",
            "rendered",
            "bulk data",
            "instance",
            "study",
            "series",
            "series metadata",
            "study metadata",
        )
    }
    # Whole studies and series are counted first, by a query of their own.
    assert statuses["study"] == statuses["series"] == statuses["instance"], statuses
    assert (
        statuses["study metadata"] == statuses["series metadata"] == statuses["instance metadata"]
    ), statuses
    assert statuses["frames"] == statuses["rendered"] == statuses["bulk data"]
    listed = study in await client.listed(patient)
    return Seen(listed, statuses["instance metadata"], statuses["frames"], statuses["instance"])
