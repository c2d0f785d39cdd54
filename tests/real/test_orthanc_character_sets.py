"""A real Orthanc with its character sets: what it says of texts, and what rules see (SIA-16)."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from sidecar.dicomweb.paths import Query
from sidecar.pacs.client import PacsClient
from sidecar.pacs.dialects import DIALECTS
from tests.permits import ASKED
from tests.real.character_sets import ENCODINGS, file, study_uid
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.orthanc_forms import FORMS, Client, load, places, sidecar
from tests.tables.orthanc_character_sets import HIDDEN, LISTED, TABLE, Seen

pytestmark = pytest.mark.orthanc


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
                results = (
                    await _says(orthanc, study_uid(n)),
                    *[await _seen(client, orthanc, whose, n) for whose in (0, 1)],
                )
            expected = case.latin1 if encoding == "Latin1" else case.utf8
            if results != expected:
                wrong.append(f"{case.name}: {results}, not {expected}")
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
            assert {resource["description"] for resource in resources} == {
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
