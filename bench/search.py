"""Searches, warm and cold, beside Orthanc's own QIDO-RS; how long others wait beside one."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import dcmread

from bench.load import FHIR, ROWS, Connection, headers, many, one_by_one
from bench.measurements import Samples
from bench.peers import ORTHANC, OURS, Peer, missing, site
from bench.processes import cpu_seconds, memory
from bench.progress import progress
from sidecar.pacs.listing import SERIES_FIELDS, STUDY_FIELDS
from tests.data import ct_study
from tests.real.orthanc import Orthanc

STUDIES = (1, 4, 50, 500, 5_000)
CONSTANT = "ours, constant answer"
WARM = "ImagingStudy search, warm, by studies of the patient"
COLD = "ImagingStudy search, cold, by studies of the patient"
SLOWER = ORTHANC + ", the slower of two"
WITH_OWNERS = ORTHANC + ", and then the owners"
REMEMBERED, A_STUDY = "Memory of a patient's studies that are remembered", "bytes"
ALONE, BESIDE = "without it", "beside it"
STALL = "Longest wait of others beside a cold search of 5,000 studies"
SPEED, CPU, SECONDS, STALLED = "searches/s", "CPU, ms a search", "seconds", "longest, ms"
PATIENT = "patient-{:06}"
_UID = "1.2.826.0.1.3680043.8.498."
_OWNERS_OF = 150
"""StudyInstanceUIDs in one query for owners, in ``uid_list`` characters of Orthanc's dialect."""


def _query(level: str, fields: Sequence[str], matching: str) -> str:
    included = ",".join((*fields, "SpecificCharacterSet"))
    return f"/{level}?{matching}&includefield={included}&limit=5000"


_QUERIES = (
    _query("studies", STUDY_FIELDS, "PatientID={}"),
    _query("series", SERIES_FIELDS, "PatientID={}"),
)
"""What a search asks Orthanc for: a patient's studies, and at the same time their series."""


def measure(rounds: int, samples: Samples, studies: tuple[int, ...] = STUDIES) -> None:
    """Measure ``rounds`` times; of the largest lists, which take seconds, three at most."""
    if ORTHANC in missing():
        return
    with loaded_orthanc(studies) as orthanc, site(orthanc.dicomweb_url) as starting:
        pacs = {"dialect": "orthanc"}
        warm = starting.ours(pacs=pacs).fhir()
        cold = starting.ours(pacs=pacs, limits={"search_cache_seconds": 0}).fhir()
        archive = Peer(ORTHANC, orthanc.dicomweb_url, orthanc.process_id)
        grown = -memory(warm.process)
        Connection(warm).seconds("/ImagingStudy", headers(FHIR, PATIENT.format(max(studies))))
        grown += memory(warm.process)
        samples.add(REMEMBERED, "each", OURS, A_STUDY, grown * 1e6 / max(studies))
        for number in range(rounds):
            progress("searches", number, rounds)
            done = many(warm, "/metadata", FHIR, seconds=1, connections=4)
            for count in studies if number < 3 else studies[:-1]:
                samples.add(WARM, f"{count}", CONSTANT, CPU, done.cpu / done.answers * 1e3, x=count)
                _measure_warm(samples, warm, archive, count)
                _measure_cold(samples, cold, archive, count, uids_of(studies, count))
        for number in range(min(rounds, 2)):
            progress("stalls", number, min(rounds, 2))
            _measure_stall(samples, cold, max(studies))


def _measure_warm(samples: Samples, ours: Peer, archive: Peer, count: int) -> None:
    patient = PATIENT.format(count)
    pages = {f"{count}": "/ImagingStudy"}
    if count == 500:
        pages["500, _count=500"] = "/ImagingStudy?_count=500"
    for case, path in pages.items():
        Connection(ours).seconds(path, headers(FHIR, patient))
        load = partial(many, connections=4) if count < 500 else one_by_one
        answers = load(ours, path, FHIR, seconds=1, token=patient)
        rows = load(archive, _QUERIES[0].format(patient), ROWS, seconds=1)
        for peer, done in ((ours, answers), (archive, rows)):
            x = count if case == f"{count}" else None
            samples.add(WARM, case, peer.name, SPEED, done.answers / done.seconds, x=x)
            samples.add(WARM, case, peer.name, CPU, done.cpu / done.answers * 1e3, x=x)


def _measure_cold(
    samples: Samples, ours: Peer, archive: Peer, count: int, uids: Sequence[str]
) -> None:
    """Measure a search, the two lists that it asks for at once, and then their studies' owners."""
    patient = PATIENT.format(count)
    listed = [uids[start : start + _OWNERS_OF] for start in range(0, count, _OWNERS_OF)]
    before = cpu_seconds(ours.process)
    seconds = Connection(ours).seconds("/ImagingStudy", headers(FHIR, patient))
    cpu = cpu_seconds(ours.process) - before
    slower = _seconds(archive, [query.format(patient) for query in _QUERIES])
    fields = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID")
    owners = [_query("studies", fields, "StudyInstanceUID=" + ",".join(uids)) for uids in listed]
    with_owners = slower + _seconds(archive, owners)
    samples.add(COLD, f"{count}", OURS, SECONDS, seconds, x=count)
    samples.add(COLD, f"{count}", OURS, CPU, cpu * 1e3, x=count)
    samples.add(COLD, f"{count}", SLOWER, SECONDS, slower, x=count)
    samples.add(COLD, f"{count}", WITH_OWNERS, SECONDS, with_owners, x=count)


def _seconds(archive: Peer, paths: Sequence[str]) -> float:
    """Ask four at a time, each by a new connection. Return the seconds until all answers came."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(lambda path: Connection(archive).seconds(path, headers(ROWS)), paths):
            pass
    return time.perf_counter() - begun


def _measure_stall(samples: Samples, ours: Peer, count: int) -> None:
    """Ask for a constant answer again and again while one search goes on, and without it."""
    patient = PATIENT.format(count)
    connection = Connection(ours)
    search = partial(Connection(ours).seconds, "/ImagingStudy", headers(FHIR, patient))
    alone = max(connection.paced("/metadata", FHIR, rate=200, seconds=2))
    beside = 0.0
    with ThreadPoolExecutor() as threads:
        searching = threads.submit(search)
        while not searching.done():
            beside = max(beside, *connection.paced("/metadata", FHIR, rate=200, seconds=0.1))
    searching.result()
    samples.add(STALL, ALONE, OURS, STALLED, alone * 1e3)
    samples.add(STALL, BESIDE, OURS, STALLED, beside * 1e3)


def uids_of(studies: tuple[int, ...], count: int) -> list[str]:
    """Return the StudyInstanceUIDs of the patient with ``count`` of these numbers of studies."""
    before = sum(studies[: studies.index(count)])
    return [f"{_UID}{number:08}" for number in range(before + 1, before + count + 1)]


@contextlib.contextmanager
def loaded_orthanc(studies: tuple[int, ...]) -> Iterator[Orthanc]:
    """Run an Orthanc in which a patient has each of these numbers of studies."""
    with Orthanc() as orthanc, TemporaryDirectory() as scratch:
        (file,) = ct_study(
            Path(scratch),
            instances=1,
            patient_id=PATIENT.format(0),
            study_instance_uid=f"{_UID}10000000",
            rows=8,
            columns=8,
        )
        template, dataset = file.read_bytes(), dcmread(file)
        uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
        patients = [count for count in studies for _ in range(count)]
        progress(f"loading {len(patients)} studies into Orthanc", 0, 1)
        for number, count in enumerate(patients, 1):
            instance = template.replace(PATIENT.format(0).encode(), PATIENT.format(count).encode())
            for uid in uids:  # Others of the same length.
                instance = instance.replace(uid.encode(), f"{uid[:-8]}{number:08}".encode())
            orthanc.load(instance)
        yield orthanc
