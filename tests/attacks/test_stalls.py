"""Nothing that a client or a peer sends holds the event loop: each row is one request, and what it may meet."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from tests.attacks.large import Asker, LargeArchive, row, series, sidecar_before, study
from tests.stalls import measured
from tests.upstreams import PATIENT

STUDIES = 5_000
LIST = orjson.dumps([study(number) for number in range(STUDIES)])
SERIES = orjson.dumps([series(number, one) for number in range(STUDIES) for one in range(3)])
MANY = LargeArchive({"studies": LIST, "series": SERIES, "instances": SERIES})
RULES: dict[str, Any] = {
    "rules": [
        {"name": "a", "effect": "exclude", "study": {"StudyDescription": ["*psych*", "*7"]}, "unknown": "ignored"},
        {"name": "b", "effect": "exclude", "series": {"Modality": ["SR"]}, "unknown": "ignored"},
    ]
}
FHIR = f"/fhir/ImagingStudy?patient={PATIENT}"
ROOT = f"/fhir/Patient/{PATIENT}/$wado-rs"


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


@pytest.mark.parametrize("access", [{}, RULES], ids=["without rules", "with rules"])
async def test_a_patient_with_many_studies(access: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """All requests of one run, each measured, with what is remembered and without."""
    found: dict[str, float] = {}
    for cold in (True, False):
        caches = {"search_cache_seconds": 0.001 if cold else 600}
        async with sidecar_before(MANY, access=access, fhir=caches) as sidecar:
            await sidecar.get("/fhir/metadata")
            for name, path in REQUESTS.items():
                with measured(request, bound=60) as seen:
                    answer = await sidecar.get(path)
                found[f"{name}, {'cold' if cold else 'warm'}"] = seen.longest
                print(f"{seen.longest * 1000:8.1f} {answer.elapsed.total_seconds():6.2f}s {answer.status_code} {name} {cold} {len(answer.content)}", flush=True)
    slow = {name: round(seconds * 1_000) for name, seconds in found.items() if seconds > 0.05}
    assert slow == {}
