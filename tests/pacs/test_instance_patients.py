"""Whose images they are by what an instance says itself: before anything leaves that carries no
patient (SIA-42).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType
from typing import Any, cast

import aiohttp
import orjson
import pytest

from sidecar.access.facts import Part, PatientIdentifier
from sidecar.access.permits import HeaderPermit, StudyPermit
from sidecar.common.errors import BadGateway, GatewayTimeout, NotFound, Problem, Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.pacs import instance_patients as module
from sidecar.pacs.client import Parameters
from sidecar.pacs.instance_patients import AT_ONCE, MAXIMUM_SERIES, InstancePatients
from sidecar.pacs.response import Upstream
from sidecar.pacs.retrieve import RetrieveClient
from tests.common.peer import Clock
from tests.dicom_instances import dataset, encoded
from tests.pacs.fake import FakePacs, row, settle
from tests.permits import header_permit

OWN, OTHER, NOBODY = PatientIdentifier("p1"), PatientIdentifier("p2"), PatientIdentifier("")
KNOWN = frozenset({OWN})
STUDY, SERIES, INSTANCE = "1.2", "1.2.1", "1.2.1.1"
PART = Part(STUDY, SERIES, INSTANCE)
JSON = {"Content-Type": "application/dicom+json", "Content-Length": "1"}
DICOM = {"Content-Type": "application/dicom", "Content-Length": "1"}


class Body:
    """An answer of the archive, as ``Upstream`` has it."""

    chunked = False

    def __init__(
        self, body: bytes = b"", headers: Mapping[str, str] = DICOM, status: int = 200
    ) -> None:
        self.status, self.headers, self._pieces = status, headers, [body] if body else []
        self.idle_seconds = 5.0
        self.failure: Exception | None = None

    async def read(self) -> list[bytes]:
        """As ``Upstream.read``."""
        if self.failure is not None:
            raise self.failure
        return [self._pieces.pop(0)] if self._pieces else []


def instance(
    patient: str = "p1", study: str = STUDY, series: str = SERIES, uid: str = INSTANCE, **more: Any
) -> bytes:
    """A DICOM file."""
    return encoded(
        dataset(
            PatientID=patient,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=uid,
            **more,
        )
    )


def metadata(patient: str | None = "p1", study: str = STUDY) -> bytes:
    """The same as DICOM JSON."""
    return orjson.dumps([row(patient, study, SERIES, INSTANCE)])


class Archive(FakePacs):
    """Rows, and what is opened: by kind, or by SeriesInstanceUID."""

    def __init__(self, *series: str) -> None:
        super().__init__(*(row("p1", STUDY, one, one + ".1") for one in series or (SERIES,)))
        self.root = "http://pacs.example.org/dicom-web"
        self.patient_of: dict[str, str] = {}
        self.answers: dict[Kind, Body] = {}
        self.opened: list[Retrieval] = []
        self.most_open = self.now_open = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def open(
        self,
        permit: StudyPermit | HeaderPermit,
        retrieval: Retrieval,
        *,
        accept: str,
        parameters: Parameters = (),
        conditions: Mapping[str, str] = MappingProxyType({}),
        expected: int | None = None,
    ) -> AbstractAsyncContextManager[Upstream]:
        """As ``RetrieveClient.open``."""
        assert isinstance(permit, HeaderPermit)
        assert permit.part.covers(retrieval.part)
        return self._answer(retrieval)

    @asynccontextmanager
    async def _answer(self, retrieval: Retrieval) -> AsyncIterator[Upstream]:
        self.opened.append(retrieval)
        self.now_open += 1
        self.most_open = max(self.most_open, self.now_open)
        try:
            await asyncio.sleep(0)
            await self.hold.wait()
            part = retrieval.part
            made = instance(
                self.patient_of.get(part.series or "", "p1"),
                STUDY,
                part.series or "",
                part.instance or "",
            )
            yield cast("Upstream", self.answers.get(retrieval.kind) or Body(made))
        finally:
            self.now_open -= 1


def looking(archive: Archive, clock: Clock | None = None, **more: Any) -> InstancePatients:
    given: dict[str, Any] = {"clock": clock or Clock(), "invalidation": Invalidation()} | more
    return InstancePatients(archive, cast("RetrieveClient", archive), **given)


async def look(patients: InstancePatients, part: Part = PART) -> frozenset[PatientIdentifier]:
    return await patients.of(header_permit("pt", part, KNOWN))


@pytest.mark.parametrize("part", [PART, Part(STUDY, SERIES), Part(STUDY)])
@pytest.mark.parametrize("patient", ["p1", "p2", "p1x", "P1"])
async def test_the_patient_of_an_instance(part: Part, patient: str) -> None:
    """Of the one that is asked for, or of any of the series."""
    archive = Archive()
    archive.patient_of[SERIES] = patient
    assert await look(looking(archive), part) == {PatientIdentifier(patient)}
    assert [one.part for one in archive.opened] == [PART]


@pytest.mark.parametrize(
    "body",
    [
        instance(study="1.9"),
        instance(series="1.9"),
        instance(uid="1.9"),
        instance(study="1.9", series="1.9", uid="1.9"),
    ],
)
async def test_an_instance_of_elsewhere_names_nobody(body: bytes) -> None:
    archive = Archive()
    archive.answers[Kind.INSTANCE] = Body(body)
    assert await look(looking(archive)) == {NOBODY}


@pytest.mark.parametrize("status", [404, 405, 406, 410, 415, 501])
@pytest.mark.parametrize("patient", ["p1", "p2"])
async def test_metadata_where_the_archive_gives_no_instance(status: int, patient: str) -> None:
    archive = Archive()
    archive.answers = {
        Kind.INSTANCE: Body(status=status),
        Kind.METADATA: Body(metadata(patient), JSON),
    }
    assert await look(looking(archive)) == {PatientIdentifier(patient)}


async def test_metadata_first_where_the_files_are_older_than_the_database() -> None:
    archive = Archive()
    archive.answers = {Kind.INSTANCE: Body(instance("old")), Kind.METADATA: Body(metadata(), JSON)}
    assert await look(looking(archive, header_first=False)) == {OWN}
    archive.answers[Kind.METADATA] = Body(status=404)
    assert await look(looking(archive, header_first=False)) == {PatientIdentifier("old")}


UNREADABLE: dict[str, dict[Kind, Body]] = {
    "junk": {Kind.INSTANCE: Body(bytes(1000))},
    "cut short": {Kind.INSTANCE: Body(instance()[:300])},
    "nothing": {Kind.INSTANCE: Body()},
    "no patient": {Kind.INSTANCE: Body(instance(""))},
    "no character set": {Kind.INSTANCE: Body(instance("Ä").replace(b"ISO_IR 192", b"          "))},
    "another character set": {Kind.INSTANCE: Body(instance("Ä").replace("Ä".encode(), b"\xc4 "))},
    "an unknown character set": {
        Kind.INSTANCE: Body(instance("Ä").replace(b"ISO_IR 192", b"ISO_IR 999"))
    },
    "another type": {
        Kind.INSTANCE: Body(instance(), {"Content-Type": "text/html", "Content-Length": "1"})
    },
    "a part of it": {Kind.INSTANCE: Body(instance(), status=206)},
    "no form that we know": {Kind.INSTANCE: Body(status=406), Kind.METADATA: Body(status=406)},
    "metadata without rows": {Kind.INSTANCE: Body(status=406), Kind.METADATA: Body(b"[]", JSON)},
    "metadata that are none": {Kind.INSTANCE: Body(status=406), Kind.METADATA: Body(b"{}", JSON)},
    "metadata that are too long": {
        Kind.INSTANCE: Body(status=406),
        Kind.METADATA: Body(b'[{"x":"' + bytes(2**17), JSON),
    },
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_read_is_refused(what: str) -> None:
    """502 with a reason of its own, counted; and asked anew the next time."""
    archive = Archive()
    archive.answers = UNREADABLE[what]
    counted: list[str] = []
    patients = looking(archive, row_bytes=2**16, drop=counted.append)
    with pytest.raises(BadGateway) as refused:
        await look(patients)
    assert (refused.value.status, refused.value.reason) == (502, "unreadable_patient")
    assert counted == ["unreadable_instance"]
    archive.answers = {}
    assert await look(patients) == {OWN}


async def test_an_instance_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_BYTES", 2**16)
    archive = Archive()
    head = instance()
    where = head.index(b"\x10\x00\x10\x00PN")  # Before the patient.
    archive.answers[Kind.INSTANCE] = Body(
        head[:where] + b"\x09\x00\x01\x10OB\0\0\xff\xff\xff\x7f" + bytes(2**17)
    )
    with pytest.raises(BadGateway):
        await look(looking(archive))


FAILURES: list[tuple[Exception, type[Problem]]] = [
    (aiohttp.ClientPayloadError(), Unavailable),
    (ConnectionResetError(), Unavailable),
    (TimeoutError(), GatewayTimeout),
]


@pytest.mark.parametrize(("failure", "problem"), FAILURES)
async def test_an_archive_that_fails_is_no_answer(
    failure: Exception, problem: type[Problem]
) -> None:
    archive = Archive()
    body = archive.answers[Kind.INSTANCE] = Body()
    body.failure = failure
    with pytest.raises(problem):
        await look(looking(archive))


@pytest.mark.parametrize(
    "rows", [[], [row("p1", "1.9", SERIES, INSTANCE)], [row("p1", STUDY, "1.9", INSTANCE)]]
)
async def test_a_series_without_instances_is_not_there(rows: Sequence[Any]) -> None:
    """A PACS may ignore what the path says: the row must say it."""
    archive = Archive()
    archive.rows, archive.filters = list(rows), False
    with pytest.raises(NotFound):
        await look(looking(archive), Part(STUDY, SERIES))


async def test_an_instance_that_is_gone_is_not_there() -> None:
    archive = Archive()
    archive.answers = {Kind.INSTANCE: Body(status=404), Kind.METADATA: Body(status=404)}
    with pytest.raises(NotFound):
        await look(looking(archive))


async def test_each_series_of_a_study() -> None:
    """Some at once; one that is another's is enough."""
    series = [f"1.2.{number}" for number in range(1, 20)]
    archive = Archive(*series)
    archive.patient_of["1.2.7"] = "p2"
    patients = looking(archive)
    assert await look(patients, Part(STUDY)) == {OWN, OTHER}
    assert sorted(one.part.series or "" for one in archive.opened) == sorted(series)
    assert archive.most_open == AT_ONCE
    assert await look(patients, Part(STUDY, "1.2.3")) == {OWN}
    assert len(archive.opened) == len(series)


async def test_a_study_of_too_many_series_is_refused() -> None:
    archive = Archive(*(f"1.2.{number}" for number in range(MAXIMUM_SERIES + 1)))
    with pytest.raises(BadGateway) as refused:
        await look(looking(archive), Part(STUDY))
    assert (refused.value.reason, archive.opened) == ("unreadable_patient", [])


async def test_a_study_without_series_names_nobody() -> None:
    """Which is nobody's (access.decision)."""
    archive = Archive()
    archive.rows = []
    assert await look(looking(archive), Part(STUDY)) == frozenset()


async def test_it_is_looked_at_once() -> None:
    """By all who ask at the same time, and as long as owners are remembered; what is another's for
    a moment.
    """
    archive, clock = Archive(), Clock()
    patients = looking(archive, clock, ttl_seconds=300, absent_seconds=5)
    archive.hold.clear()
    asking = [
        asyncio.create_task(look(patients, Part(STUDY, SERIES, f"{SERIES}.{n}")))
        for n in range(1, 9)
    ]
    await settle()
    archive.hold.set()
    assert set(await asyncio.gather(*asking)) == {frozenset({OWN})}
    clock.now += 299
    await look(patients)
    assert len(archive.opened) == 1
    clock.now += 2
    archive.patient_of[SERIES] = "p2"
    assert await look(patients) == {OTHER}
    archive.patient_of = {}
    clock.now += 4
    assert await look(patients) == {OTHER}
    clock.now += 2
    assert await look(patients) == {OWN}


async def test_what_one_patient_may_have_is_not_known_for_another() -> None:
    archive = Archive()
    patients = looking(archive)
    await look(patients)
    await patients.of(header_permit("pt2", PART, frozenset({OTHER})))
    assert len(archive.opened) == 2


FORGETTING: dict[str, tuple[Any, bool]] = {
    "everybody's": (lambda patients: patients._invalidation.archive_changed(None), True),
    "the patient's": (lambda patients: patients._invalidation.archive_changed({"p1"}), True),
    "another's": (lambda patients: patients._invalidation.archive_changed({"p2"}), False),
    "the study": (lambda patients: patients._invalidation.forget_study(STUDY), True),
    "another study": (lambda patients: patients._invalidation.forget_study("1.9"), False),
}


@pytest.mark.parametrize("what", FORGETTING)
async def test_it_is_forgotten(what: str) -> None:
    forget, anew = FORGETTING[what]
    archive = Archive()
    patients = looking(archive)
    await look(patients)
    forget(patients)
    await look(patients)
    assert len(archive.opened) == 1 + anew


@pytest.mark.parametrize("what", ["everybody's", "the study"])
async def test_what_was_under_way_then_is_not_kept(what: str) -> None:
    """Nor does anybody who asks afterwards wait for it."""
    archive = Archive()
    patients = looking(archive)
    archive.hold.clear()
    asking = asyncio.create_task(look(patients))
    await settle()
    FORGETTING[what][0](patients)
    archive.hold.set()
    await asking
    await look(patients)
    assert len(archive.opened) == 2
    await patients.close()


async def test_after_something_foreign_an_instance_speaks_for_itself_alone() -> None:
    """Else one own instance would vouch for the foreign one beside it."""
    archive = Archive()
    patients = looking(archive)
    others = [Part(STUDY, SERIES, f"{SERIES}.{number}") for number in (2, 3)]
    for part in (PART, *others):
        await look(patients, part)
    assert len(archive.opened) == 1
    patients._invalidation.forget_study(STUDY)
    for part in (PART, *others, PART):
        await look(patients, part)
    assert [retrieval.part for retrieval in archive.opened[1:]] == [PART, *others]


async def test_so_it_does_for_an_hour() -> None:
    """However short the time is for which what it says is remembered."""
    archive, clock = Archive(), Clock()
    patients = looking(archive, clock, invalidation=Invalidation(clock))
    patients._invalidation.forget_study(STUDY)
    clock.now += 3_599
    for number in (1, 2):
        await look(patients, Part(STUDY, SERIES, f"{SERIES}.{number}"))
    assert len(archive.opened) == 2


async def test_after_a_failure_nothing_more_is_looked_at() -> None:
    archive = Archive(*(f"{STUDY}.{number}" for number in range(1, 60)))
    archive.answers[Kind.INSTANCE] = archive.answers[Kind.METADATA] = Body(b"nonsense")
    patients = looking(archive)
    with pytest.raises(BadGateway):
        await look(patients, Part(STUDY))
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(archive.opened) <= 2 * AT_ONCE  # Those that were under way, in either form.
