"""Nothing that a client or a peer sends holds the event loop: each row is one request, and what it
may meet.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import requests

from tests.attacks.large import LargeArchive, row, series, sidecar_before, study
from tests.dicom_instances import dataset, encoded
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.stalls import BOUND_SECONDS, measured

STUDIES = 5_000
RULES: dict[str, Any] = {
    "rules": [
        {
            "name": "a",
            "effect": "exclude",
            "study": {"StudyDescription": ["*psych*", "*7"]},
            "unknown": "ignored",
        },
        {"name": "b", "effect": "exclude", "series": {"Modality": ["SR"]}, "unknown": "ignored"},
    ]
}
FHIR = f"/fhir/ImagingStudy?patient={PATIENT}"
ROOT = f"/fhir/Patient/{PATIENT}/$wado-rs"


@functools.cache
def many() -> LargeArchive:
    """An archive where the patient has many studies; made once,
    and not when tests are collected.
    """
    studies = orjson.dumps([study(number) for number in range(STUDIES)])
    below = orjson.dumps([series(number, one) for number in range(STUDIES) for one in range(3)])
    return LargeArchive({"studies": studies, "series": below, "instances": below})


def alternatives(one: str, most: int = 6_900) -> str:
    """So many as there is room for in the links of a search."""
    return ",".join([one] * (most // len(one + "%2C")))


REQUESTS = {
    "a search": FHIR,
    "a search with all that can be included": FHIR + "&_count=500&_include=ImagingStudy:endpoint",
    "in FHIR R5": FHIR + "&_count=500&_format=json;fhirVersion=5.0",
    "pretty": FHIR + "&_count=500&_pretty=true",
    "sorted": FHIR + "&_sort=_lastUpdated,-started",
    "the total alone": FHIR + "&_summary=count",
    "of one modality": FHIR + "&modality=CT&_count=500",
    "of no modality": FHIR + "&modality:missing=true",
    "by body site": FHIR + "&bodysite=CHEST&_count=500",
    "by a series": FHIR + "&series=1.2.840.77.1",
    "many identifiers": FHIR + "&identifier=" + alternatives("A1"),
    "many ids": FHIR + "&_id=" + alternatives("1"),
    "many modalities": FHIR + "&modality=" + alternatives("M"),
    "not many modalities": FHIR + "&modality:not=" + alternatives("M"),
    "many body sites": FHIR + "&bodysite=" + alternatives("M"),
    "many series": FHIR + "&series=" + alternatives("1.2"),
    "many dates": FHIR + "&started=" + alternatives("2020"),
    "many parameters": FHIR + "&modality=CT,SR,M" * 49,
    "a read": "/fhir/ImagingStudy/1.2.840.1",
    "a study's series": ROOT + "/studies/1.2.840.1/series",
    "all studies": ROOT + "/studies",
    "all series": ROOT + "/series",
    "by many wildcards": ROOT + "/studies?ModalitiesInStudy=" + "*" * 100 + "X",
    "by many wildcards in between": ROOT + "/studies?ModalitiesInStudy=" + "*C" * 100 + "X",
    "by many modalities": ROOT + "/studies?ModalitiesInStudy=" + ",".join(["*?T*"] * 800),
}


OF_EACH_KIND = [
    "a search with all that can be included",
    "not many modalities",
    "a read",
    "all studies",
]


@pytest.mark.parametrize(
    ("access", "names"),
    [
        pytest.param({}, list(REQUESTS), id="without rules", marks=pytest.mark.exhaustive),
        pytest.param(RULES, list(REQUESTS), id="with rules", marks=pytest.mark.exhaustive),
        pytest.param(RULES, ["a search", *OF_EACH_KIND], id="with rules, one request of each kind"),
    ],
)
async def test_a_patient_with_many_studies(
    access: dict[str, Any], names: list[str], request: pytest.FixtureRequest
) -> None:
    """Each request of the table, answered from what is remembered; the first one asks the archive
    for the lists.

    The least of three measurements counts, as in ``timeit``: what is more is the machine's. Only
    what was over the bound is measured again.
    """
    held = dict.fromkeys(names, float("inf"))
    for _ in range(3):
        async with sidecar_before(
            many(), access=access, limits={"search_cache_seconds": 600}
        ) as sidecar:
            await sidecar.get("/fhir/metadata")
            for name in [
                name for name in names if name == "a search" or held[name] > BOUND_SECONDS
            ]:
                with measured(request, bound=float("inf")) as seen:
                    answer = await sidecar.get(REQUESTS[name])
                assert answer.status_code in (200, 400), (name, answer.text)
                held[name] = min(held[name], seen.longest)
        if max(held.values()) <= BOUND_SECONDS:
            return
    too_long = {
        name: round(seconds * 1_000) for name, seconds in held.items() if seconds > BOUND_SECONDS
    }
    assert too_long == {}, "milliseconds of CPU time for which the loop was held"


BY_SERIES = [
    "performer.name=doe",
    "performer:missing=false",
    "bodysite:not=HEAD",
    "bodysite:text=chest",
    "modality:not=M",
    "series:not=1.2",
]
"""Parameters that are about all series of a study, and that it passes."""


async def test_a_study_of_many_series(request: pytest.FixtureRequest) -> None:
    """What rules leave of it, and its resource, are worked out in a thread, and so is whether it
    passes.
    """
    performer = {"Alphabetic": "Doe^Jane"}
    rows = [series(1, number, PerformingPhysicianName=performer) for number in range(3_000)]
    lists = {"studies": orjson.dumps([study(1)]), "series": orjson.dumps(rows)}
    searches = [FHIR + ("&" + parameter) * 49 for parameter in BY_SERIES]
    async with sidecar_before(
        LargeArchive(lists), access=RULES, limits={"search_cache_seconds": 600}
    ) as sidecar:
        await sidecar.get("/fhir/metadata")
        for path in (FHIR, FHIR + "&_format=json;fhirVersion=5.0", ROOT + "/studies", *searches):
            with measured(request):
                answer = await sidecar.get(path)
            assert answer.status_code == 200
            assert path not in searches or answer.json()["total"] == 1


def metadata_row(**attributes: Any) -> bytes:
    found = row(
        StudyInstanceUID="1.2.840.1",
        SeriesInstanceUID="1.2.840.1.1",
        SOPInstanceUID="1.2.840.1.1.1",
    )
    return orjson.dumps(found | attributes)


def uris(count: int) -> dict[str, Any]:
    """Private attributes whose values stand elsewhere; each is looked for in the instance, the
    series and the study.
    """
    return {f"0029{0x1000 + one:04X}": {"vr": "OB", "BulkDataURI": "a"} for one in range(count)}


ITEM = {
    "00081150": {"vr": "UI", "Value": ["1.2.840.10008"]},
    "00081155": {"vr": "UI", "Value": ["1.2.3"]},
}
FRAMES = {"00089215": {"vr": "SQ", "Value": [ITEM] * 60_000}}
METADATA: dict[str, Callable[[], bytes]] = {
    "many rows": lambda: b"[" + b",".join([metadata_row()] * 20_000) + b"]",
    "a row of many frames": lambda: b"[" + metadata_row(**FRAMES) + b"]",
    "a row of many nested frames": lambda: (
        b"[" + metadata_row(**{"52009230": {"vr": "SQ", "Value": [FRAMES] * 2}}) + b"]"
    ),
    "a row of five million values": lambda: (
        b"[" + metadata_row(**{"00281199": {"vr": "US", "Value": [0] * 5_000_000}}) + b"]"
    ),
    "a row of empty items": lambda: (
        b"[" + metadata_row(**{"00089215": {"vr": "SQ", "Value": [{}] * 300_000}}) + b"]"
    ),
    "a row of many short BulkDataURIs": lambda: b"[" + metadata_row(**uris(1_400)) + b"]",
    "such a row with escapes in the names": lambda: (
        b"[" + metadata_row(**uris(1_200)).replace(b"BulkDataURI", rb"BulkData\u0055RI") + b"]"
    ),
    "a row of 100,000 BulkDataURIs": lambda: (
        b"[" + metadata_row(**{"00089215": {"vr": "SQ", "Value": [uris(1)] * 100_000}}) + b"]"
    ),
    "many rows of some BulkDataURIs": lambda: (
        b"[" + b",".join([metadata_row(**uris(90))] * 200) + b"]"
    ),
    "a long text": lambda: (
        b"[" + metadata_row(**{"00081030": {"vr": "UT", "Value": ["x" * 2**23]}}) + b"]"
    ),
    "a small row of many BulkDataURIs": lambda: (
        b"["
        + metadata_row(**{f"0009{one:04X}": {"BulkDataURI": "a"} for one in range(4_096, 5_700)})
        + b"]"
    ),
    "a small row of numbers that are none": lambda: (
        b"["
        + metadata_row(**{"00281199": {"vr": "FD", "Value": [0] * 12_000}}).replace(b"0,", b"NaN,")
        + b"]"
    ),
    "nested as deep as it goes": lambda: b"[" + b'{"00081199":{"vr":"SQ","Value":[' * 100_000,
    "rows that are empty": lambda: b"[" + b"{}," * 1_000_000,
    "a row over the limit": lambda: (
        b"[" + metadata_row(**{"00081030": {"vr": "UT", "Value": ["x" * 2**24]}}) + b"]"
    ),
}


LONG = {
    "a row of many frames",
    "a row of many nested frames",
    "a row of five million values",
    "a row of 100,000 BulkDataURIs",
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.exhaustive) if case in LONG else case
        for case in METADATA
    ],
)
async def test_large_metadata(case: str, request: pytest.FixtureRequest) -> None:
    archive = LargeArchive(retrieve=(METADATA[case](), "application/dicom+json"))
    async with sidecar_before(archive) as sidecar:
        await sidecar.get("/fhir/metadata")
        broken_off = contextlib.suppress(
            requests.ConnectionError, requests.exceptions.ChunkedEncodingError
        )
        with measured(request), broken_off:
            answer = await sidecar.get(ROOT + "/studies/1.2.840.1/metadata")
            assert answer.status_code in (200, 502), answer.text[:200]


@pytest.mark.parametrize("of", ["studies", pytest.param("series", marks=pytest.mark.exhaustive)])
async def test_instances_that_are_counted_by_their_list(
    of: str, request: pytest.FixtureRequest
) -> None:
    """By an archive that says no number, and answers with as many rows as are taken."""
    place = {"StudyInstanceUID": "1.2.840.1", "SeriesInstanceUID": "1.2.840.1.1"}
    listed = orjson.dumps(
        [row(**place, SOPInstanceUID=f"1.2.840.1.1.{one}") for one in range(19_000)]
    )
    metadata = b"[" + b",".join([metadata_row()] * 19_000) + b"]"
    lists = {
        "series": listed if of == "series" else orjson.dumps([row(**place)]),
        "instances": listed,
    }
    archive = LargeArchive(lists, retrieve=(metadata, "application/dicom+json"), instances=0)
    path = (
        ROOT
        + "/studies/1.2.840.1"
        + ("" if of == "studies" else "/series/1.2.840.1.1")
        + "/metadata"
    )
    async with sidecar_before(archive) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(path)
    assert answer.status_code == 200, answer.text[:200]


QUERY = b'{"00100020":{"vr":"LO","Value":["p1"]},"0020000D":{"vr":"UI","Value":["1.2.3"]}}'
QUERIES: dict[str, tuple[Callable[[], bytes], int]] = {
    "more rows than the limit": (lambda: b"[" + b",".join([QUERY] * 30_000) + b"]", 502),
    "60 MB of empty rows": (lambda: b"[" + b"{}," * 20_000_000, 502),
    "60 MB of rows": (lambda: b"[" + b",".join([QUERY] * 700_000) + b"]", 502),
    "a row of five million values": (
        lambda: b'[{"00080061":{"vr":"CS","Value":[' + b"0," * 5_000_000 + b"0]}}]",
        502,
    ),
    "many modalities in each row": (
        lambda: orjson.dumps([study(one, ModalitiesInStudy=["CT"] * 900) for one in range(500)]),
        200,
    ),
    "rows nested in themselves": (lambda: b'[{"00081199":' * 30_000, 502),
    "one long text": (lambda: b'["' + b"x" * 60_000_000, 502),
}


@pytest.mark.parametrize(
    ("path", "case"),
    [
        *((FHIR, case) for case in QUERIES),
        (ROOT + "/studies", "many modalities in each row"),
        *(
            # Read as for a search.
            pytest.param(ROOT + "/studies", case, marks=pytest.mark.exhaustive)
            for case in QUERIES
            if case != "many modalities in each row"
        ),
    ],
)
async def test_large_answers_to_queries(
    case: str, path: str, request: pytest.FixtureRequest
) -> None:
    made, status = QUERIES[case]
    async with sidecar_before(LargeArchive({"studies": made()})) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(path)
        assert answer.status_code == status, answer.text


async def test_many_small_parts(request: pytest.FixtureRequest) -> None:
    """Instances of a few hundred bytes, 16 MB of them, read from the socket a megabyte a time."""
    names = {"PatientID": PATIENT, "StudyInstanceUID": "1.2.840.1", "SeriesInstanceUID": "1.2.3"}
    small = [encoded(dataset(**names, StudyDescription="x" * (one % 40))) for one in range(200)]
    part = b"\r\n--abc\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(part + one for one in small * 160)[2:] + b"\r\n--abc--\r\n"
    multipart = 'multipart/related; type="application/dicom"; boundary=abc'
    archive = LargeArchive(retrieve=(body, multipart), instances=32_000)
    async with sidecar_before(archive) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(ROOT + "/studies/1.2.840.1")
    assert answer.content == body


EHR: dict[str, Any] = {
    "deep": "[" * 65_000,
    "many members": "{" + ",".join(f'"m{number}": 0' for number in range(5_000)) + "}",
    "many scopes": {"scope": " ".join(f"patient/*.r?_id={one}" for one in range(2_500))},
    "many constraints that hold": {
        "scope": " ".join(f"patient/*.rs?_id={one}" for one in range(2_500))
    },
    "a list of scopes": {"scope": ["a"] * 12_000},
}


@pytest.mark.parametrize("case", EHR)
async def test_large_answers_of_the_ehr(case: str, request: pytest.FixtureRequest) -> None:
    told = EHR[case]
    ehr = ScriptedEhr()
    ehr.answer = {**ehr.answer, **told} if isinstance(told, dict) else told
    async with sidecar_before(many(), ehr) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(FHIR)
    assert answer.status_code in (200, 403, 502, 503), answer.text


async def test_a_large_patient(request: pytest.FixtureRequest) -> None:
    """A megabyte of objects; none of them is the patient's number."""
    resource = b'{"resourceType":"Patient","id":"p1","identifier":[' + b"{}," * 340_000 + b"{}]}"

    ehr = ScriptedEhr(patients={PATIENT: resource})
    patients = {
        "mapping": "ehr",
        "identifiers": [{"system": "urn:x"}],
        "client": {"method": "none"},
    }
    async with sidecar_before(many(), ehr, patients=patients) as sidecar:
        await sidecar.get("/fhir/metadata")
        with measured(request):
            answer = await sidecar.get(FHIR)
    assert answer.json()["total"] == 0
