"""What an archive's people do to a study, and what each form of request then answers: a table, on a
real Orthanc.

Each correction is done while the study and one series of it are being sent to a client that reads
slowly, and while everything about the study is remembered. Nothing partial looks whole in any cell,
and nothing that names its patient is foreign.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pydicom
import pytest
from pydicom.uid import UID, generate_uid

from sidecar.bootstrap.build import Sidecar
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.corrections import (
    INSTANCES,
    OTHER_PATIENT,
    OTHER_STUDY,
    STUDY,
    Archive,
    SlowTransfer,
)
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Served
from tests.tables.orthanc_corrections import TABLE

pytestmark = pytest.mark.orthanc

HALF = INSTANCES // 2
FEW = 3
KEEP_ALL = {"Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"], "Force": True}


def study(archive: Archive) -> str:
    return "/studies/" + archive.find("Study", StudyInstanceUID=STUDY, PatientID=PATIENT)


def second_series(archive: Archive) -> str:
    return archive.find("Series", SeriesInstanceUID=archive.parts()[-1][0])


def delete_study(archive: Archive) -> None:
    archive.delete(study(archive))


def delete_series(archive: Archive) -> None:
    archive.delete("/series/" + second_series(archive))


def delete_instance(archive: Archive) -> None:
    archive.delete("/instances/" + archive.find("Instance", SOPInstanceUID=archive.parts()[-1][1]))


def change_number_of_patient(archive: Archive) -> None:
    """Orthanc gives the study new UIDs."""
    patient = archive.find("Patient", PatientID=PATIENT)
    change = {"Replace": {"PatientID": OTHER_PATIENT}, "Force": True, "KeepSource": False}
    archive.post(f"/patients/{patient}/modify", change)


def merge_into_others(archive: Archive) -> None:
    other = archive.find("Study", StudyInstanceUID=OTHER_STUDY)
    archive.post(
        f"/studies/{other}/merge",
        {"Resources": [study(archive).rpartition("/")[2]], "KeepSource": False},
    )


def split_for_other(archive: Archive) -> None:
    change = {
        "Series": [second_series(archive)],
        "Replace": {"PatientID": OTHER_PATIENT},
        "KeepSource": False,
    }
    archive.post(study(archive) + "/split", change)


def describe_anew(archive: Archive) -> None:
    """Orthanc makes it a new study, with new UIDs, of the same patient."""
    change = {"Replace": {"StudyDescription": "Corrected"}, "KeepSource": False}
    archive.post(study(archive) + "/modify", change)


def describe_series_anew(archive: Archive) -> None:
    change = {"Replace": {"SeriesDescription": "Corrected"}, "KeepSource": False}
    archive.post(f"/series/{second_series(archive)}/modify", change)


def to_other(image: pydicom.Dataset) -> None:
    image.PatientID = OTHER_PATIENT


def refile_for_other(archive: Archive) -> None:
    """The same UIDs are another patient's from now on."""
    archive.delete(study(archive))
    archive.store(to_other, archive.files)


def refile_series_for_other(archive: Archive) -> None:
    """One study UID under two patients."""
    archive.delete("/series/" + second_series(archive))
    archive.store(to_other, archive.files[HALF:])


def stray_instance(archive: Archive) -> None:
    """An instance of another patient under the study's UID."""

    def change(image: pydicom.Dataset) -> None:
        to_other(image)
        image.SeriesInstanceUID, image.SOPInstanceUID = generate_uid(), UID(generate_uid())

    archive.store(change, archive.files[:1])


def anonymise_copy(archive: Archive) -> None:
    archive.post(
        study(archive) + "/anonymize",
        KEEP_ALL | {"Replace": {"PatientID": "anonymous"}, "KeepSource": True},
    )


def images_come(archive: Archive) -> None:
    def change(image: pydicom.Dataset) -> None:
        image.SOPInstanceUID = UID(generate_uid())

    archive.store(change, archive.files[-FEW:])


def replace_instances(archive: Archive) -> None:
    """Deleted and sent anew, as they were."""
    for _, uid in archive.parts()[-FEW:]:
        archive.delete("/instances/" + archive.find("Instance", SOPInstanceUID=uid))
    archive.store(lambda image: None, archive.files[-FEW:])


@dataclass(frozen=True)
class Expected:
    """One line of the table."""

    correct: Callable[[Archive], None]
    sent: list[str]
    then: list[str]
    searched: list[str]
    drawn_first: list[str]

    @staticmethod
    def read(line: str) -> "Expected":
        name, *columns = (column.split() for column in line.split("|"))
        return Expected(globals()[name[0]], *columns)


LINES = [Expected.read(line) for line in TABLE.splitlines()[5:]]


@dataclass
class Client:
    """Asks a sidecar for each form of the study; an answer is its status, and how many instances or
    rows it has.
    """

    session: aiohttp.ClientSession
    url: str
    parts: list[tuple[str, str]]

    async def ask(self, form: str) -> str:
        series, instance = self.parts[-1]
        below = f"/wado-rs/studies/{STUDY}"
        one = f"{below}/series/{series}/instances/{instance}"
        path, accept = {
            "study": (below, "*/*"),
            "series": (f"{below}/series/{series}", "*/*"),
            "study metadata": (f"{below}/metadata", "application/dicom+json"),
            "series metadata": (f"{below}/series/{series}/metadata", "application/dicom+json"),
            "instance": (one, "*/*"),
            "instance metadata": (f"{one}/metadata", "application/dicom+json"),
            "frames": (f"{one}/frames/1", 'multipart/related; type="application/octet-stream"'),
            "rendered": (f"{one}/rendered", "image/png"),
            "QIDO-RS studies": (
                f"/wado-rs/studies?StudyInstanceUID={STUDY}",
                "application/dicom+json",
            ),
            "QIDO-RS series": (f"{below}/series", "application/dicom+json"),
            "QIDO-RS instances": (f"{below}/instances", "application/dicom+json"),
            "FHIR search": (
                f"/fhir/ImagingStudy?identifier=urn:oid:{STUDY}",
                "application/fhir+json",
            ),
        }[form]
        async with self.session.get(self.url + path, headers={"Accept": accept}) as answer:
            try:
                body = await answer.read()
            except aiohttp.ClientError:
                return "reset"
            assert OTHER_PATIENT.encode() not in body
            if answer.status != 200:
                return str(answer.status)
            if "json" in accept:
                content = json.loads(body)
                return str(
                    len(content) if isinstance(content, list) else len(content.get("entry", []))
                )
            return str(max(1, body.count(b"Content-Type: application/dicom")))


FORMS = [
    ("study", "study metadata"),
    ("series", "series metadata"),
    ("instance", "instance metadata", "frames", "rendered"),
    ("QIDO-RS studies",),
    ("QIDO-RS series",),
    ("QIDO-RS instances",),
]
"""By the columns of the table."""


async def asked(client: Client) -> list[str]:
    """What each column's forms answer, which is the same for all of them."""
    found = [{await client.ask(form) for form in forms} for forms in FORMS]
    assert [one for one in found if len(one) > 1] == []
    return [one.pop() for one in found]


async def opened(url: str, archive: Archive) -> list[SlowTransfer]:
    """The study and its second series, under way."""
    below = f"/wado-rs/studies/{STUDY}"
    return [
        await SlowTransfer(url, path, "*/*").begin()
        for path in (below, f"{below}/series/{archive.parts()[-1][0]}")
    ]


async def end(transfer: SlowTransfer) -> str:
    """``reset``, or how many instances came whole."""
    body, is_whole = await transfer.rest()
    assert OTHER_PATIENT.encode() not in body
    return str(body.count(b"Content-Type: application/dicom")) if is_whole else "reset"


def alarms(sidecar: Sidecar) -> float:
    """Security alarms."""
    return sum(
        sample.value
        for family in sidecar.metrics.verification_failures.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.correct.__name__)
async def test_a_correction(
    line: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three sidecars in front of one archive: two that remember, and one that never saw the study
    as it was.
    """
    require_orthanc()
    monkeypatch.setattr("sidecar.authorization.authorizer.UNNAMED_SECONDS", 0)
    pacs = {"dialect": "orthanc"}
    with Orthanc() as orthanc:
        archive = Archive(orthanc, tmp_path)
        archive.load()
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
            sidecar_between(ScriptedEhr(), Served(orthanc), pacs=pacs) as (url, sidecar),
            sidecar_between(ScriptedEhr(), Served(orthanc), pacs=pacs) as (second_url, second),
            sidecar_between(ScriptedEhr(), Served(orthanc), pacs=pacs) as (new_url, _),
        ):
            ours, seconds, new = (
                Client(session, one, archive.parts()) for one in (url, second_url, new_url)
            )
            for client in (ours, seconds):
                assert await asked(client) == [
                    str(INSTANCES),
                    str(HALF),
                    "1",
                    "1",
                    "2",
                    str(INSTANCES),
                ]
                assert await client.ask("FHIR search") == "1"
            transfers = await opened(url, archive)
            await asyncio.to_thread(line.correct, archive)
            assert [await end(one) for one in transfers] == line.sent
            assert await asked(ours) == line.then
            drawn_first = [
                await seconds.ask(form) for form in ("frames", "rendered", "instance", "frames")
            ]
            assert drawn_first == line.drawn_first
            assert await asked(new) == line.then
            assert [await ours.ask("FHIR search"), await new.ask("FHIR search")] == line.searched
            # None of it is an alarm.
            assert alarms(sidecar) == alarms(second) == 0
