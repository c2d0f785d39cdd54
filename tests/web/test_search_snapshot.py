"""Searches from the snapshot of a list: the same answers as without it, for less work."""

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.bootstrap.build import Sidecar
from sidecar.fhir import select
from sidecar.fhir.imaging_study import SeriesRows, imaging_study
from sidecar.fhir.list_snapshot import ListedStudy
from sidecar.pacs import listing
from sidecar.web import fhir_handlers, study_entries
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, active
from tests.fakes.site import SITE, sidecar_between
from tests.fhir.rows import Row, row

SECRET = "what-nobody-shows"
NO_SR = {"name": "no SR", "effect": "exclude", "series": {"Modality": ["SR"]}}
SCOPES = {
    TOKEN: "patient/ImagingStudy.rs",
    "of-ct": "patient/ImagingStudy.rs?modality=CT",
    "of-chests": "patient/ImagingStudy.rs?bodysite=CHEST",
    "without-rules": "system/ImagingStudy.rs",
}
ACCESS: dict[str, Any] = {
    "backend_services": True,
    "clients": {"robot": {"patients": [PATIENT], "rules": False}},
}


def ehr() -> ScriptedEhr:
    """Return an EHR whose tokens are those of ``SCOPES``."""

    def answer(token: str) -> dict[str, Any]:
        scope = SCOPES[token]
        client = {"client_id": "robot", "patient": None} if scope.startswith("system") else {}
        return active(PATIENT, scope=scope, **client)

    return ScriptedEhr(answer=answer)


def study_row(number: int, **attributes: Any) -> Row:
    return row(PatientID=PATIENT, StudyInstanceUID=f"1.2.{number}", **attributes)


def series_row(study: int, number: int, modality: str, body_part: str | None = None) -> Row:
    return study_row(
        study,
        SeriesInstanceUID=f"1.2.{study}.{number}",
        Modality=modality,
        BodyPartExamined=body_part,
        SeriesDescription=SECRET if modality == "SR" else "slices",
        NumberOfSeriesRelatedInstances=number,
    )


@st.composite
def lists(draw: st.DrawFn) -> list[Row]:
    """Draw a patient's studies with their series; an archive may count more than it lists."""
    studies, below = [], []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        series = [
            series_row(number, place + 1, *draw(st.sampled_from(_SERIES)))
            for place in range(draw(st.integers(0, 3)))
        ]
        modalities = dict.fromkeys(each["00080060"]["Value"][0] for each in series)
        named = {"ModalitiesInStudy": [*modalities]} if draw(st.booleans()) else {}
        studies.append(
            study_row(
                number,
                StudyDate=draw(st.sampled_from(["20240101", "20240229", None])),
                AccessionNumber=draw(st.sampled_from(["A1", "A2", None])),
                NumberOfStudyRelatedSeries=len(series) + draw(st.sampled_from([0, 0, 1])),
                **named,
            )
        )
        below += series
    return studies + below


_SERIES = [("CT", "CHEST"), ("CT", "HEAD"), ("SR", None), ("MR", None)]
_PARAMETERS = st.sampled_from(
    [
        ("modality", "CT"),
        ("modality:not", "SR"),
        ("bodysite", "CHEST"),
        ("bodysite:missing", "true"),
        ("series", "1.2.1.1,1.2.2.1"),
        ("_id", "1.2.1,1.2.2"),
        ("identifier", "A1"),
        ("started", "ge2024-02-01"),
        ("started:missing", "false"),
        ("started", "ap2024-01-01"),
        ("_lastUpdated", "gt2020-01-01"),
        ("status", "available"),
        ("_sort", "started"),
        ("_sort", "-_lastUpdated,started"),
        ("_count", "1"),
        ("_count", "2"),
        ("_count", "0"),
        ("_summary", "true"),
        ("_elements", "started,series"),
        ("_include", "ImagingStudy:endpoint"),
        ("_total", "none"),
        ("_pretty", "true"),
        ("_format", "application/fhir+json;fhirVersion=5.0"),
        ("unknown", "x"),
        ("_has:Observation:subject:code", "x"),
        ("modality:text", "x"),
        ("bodysite:text", "che"),
        ("series:not", "1.2.1.1"),
        ("identifier:not", "A1"),
        ("basedon:identifier", "A1"),
        ("performer:missing", "true"),
        ("_sort", "-_id"),
    ]
)
_WIDENED = {"_has:Observation:subject:code", "modality:text"}
_SEARCHES = st.lists(_PARAMETERS, max_size=3).filter(
    lambda search: ("_count", "0") not in search or _WIDENED.isdisjoint(dict(search))
)
"""A total alone is not counted without a filter: that is a 400."""
_REQUESTS = st.tuples(st.sampled_from(sorted(SCOPES)), _SEARCHES)


@dataclass
class Client:
    """Searches at one sidecar."""

    session: aiohttp.ClientSession
    url: str
    sidecar: Sidecar

    async def pages(self, token: str, parameters: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """Return all pages of a search."""
        pages, url = (
            [],
            f"{self.url}/fhir/ImagingStudy?{urlencode([('patient', PATIENT), *parameters])}",
        )
        while url:
            bundle = await self.page(token, url)
            pages.append(bundle)
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            path = links.get("next", "").partition("/fhir/")[2]
            url = f"{self.url}/fhir/{path}" if path else ""
        return pages

    async def page(self, token: str, url: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.get(url, headers=headers) as response:
            assert response.status == 200, await response.text()
            found: dict[str, Any] = await response.json()
            return found


@contextlib.asynccontextmanager
async def client_of(archive: RowArchive, **changes: dict[str, Any]) -> AsyncIterator[Client]:
    async with (
        sidecar_between(ehr(), archive, **{"access": ACCESS} | changes) as (url, sidecar),
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, url, sidecar)


def without_times(pages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what two answers to one search have in common. They are changed."""
    for bundle in pages:
        del bundle["id"], bundle["meta"]
        for link in bundle["link"]:
            link["url"] = link["url"].partition("_after")[0]
        for each in bundle.get("entry", ()):
            each["resource"].get("meta", {}).pop("lastUpdated", None)
            each["resource"].pop("subject", None)  # Each has an EHR of its own.
    return pages


@dataclass
class Pair:
    """Two sidecars of one archive: one remembers its lists, the other does not."""

    loop: asyncio.Runner
    archive: RowArchive
    remembering: Client
    forgetful: Client


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "everything": {},
    "rules": {"access": {**ACCESS, "rules": [NO_SR]}},
    "no details": {"fhir": {"detail": "study"}},
    "instances": {"fhir": {"detail": "instance"}},
    "contained": {"fhir": {"contained_endpoint": True}},
}


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    archive, changes = RowArchive(), CONFIGURATIONS[request.param]
    with asyncio.Runner() as loop:
        stack = contextlib.AsyncExitStack()

        async def client(**limits: float) -> Client:
            return await stack.enter_async_context(client_of(archive, **changes, limits=limits))

        clients = [loop.run(client()), loop.run(client(search_cache_seconds=0))]
        yield Pair(loop, archive, *clients)
        loop.run(stack.aclose())


@settings(
    deadline=None,
    max_examples=max(3, settings().max_examples // 4),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=lists(), requests=st.lists(_REQUESTS, min_size=1, max_size=4))
def test_what_is_remembered_is_what_is_worked_out_anew(
    pair: Pair, rows: list[Row], requests: list[tuple[str, list[tuple[str, str]]]]
) -> None:
    """Whatever was asked before, and by whom: a token that shows less comes after one that shows
    more.
    """
    pair.archive.rows = tuple(rows)
    pair.remembering.sidecar.invalidation.invalidate()
    for token, parameters in [*requests, *requests]:
        remembered = pair.loop.run(pair.remembering.pages(token, parameters))
        anew = pair.loop.run(pair.forgetful.pages(token, parameters))
        assert without_times(remembered) == without_times(anew)


@settings(deadline=None, max_examples=max(3, settings().max_examples // 4))
@given(rows=lists())
def test_an_entry_is_the_study_as_the_archive_lists_it(rows: list[Row]) -> None:
    """By the functions that make resources, from the archive's rows; twice."""

    async def entries() -> list[list[dict[str, Any]]]:
        async with client_of(RowArchive(*rows)) as client:
            found = [await client.pages(TOKEN, []) for _ in range(2)]
            return [bundle["entry"] for (bundle,) in found]

    for found in asyncio.run(entries()):
        for each in found:
            resource = each["resource"]
            uid = resource["id"]
            (own, *series) = (row for row in rows if row["0020000D"]["Value"] == [uid])
            expected = imaging_study(
                own,
                patient=PATIENT,
                endpoint={"reference": f"Endpoint/{PATIENT}"},
                site=SITE,
                last_updated=resource["meta"]["lastUpdated"],
                series=[SeriesRows(row) for row in series],
            )
            del expected["subject"], resource["subject"]  # The EHR has a port of its own.
            assert resource == expected
            assert each["fullUrl"].endswith(f"/fhir/ImagingStudy/{uid}")
            assert each["search"] == {"mode": "match"}


MANY = [
    *(study_row(number, ModalitiesInStudy=["CT", "SR"]) for number in range(1, 41)),
    *(
        series_row(number, place, modality)
        for number in range(1, 41)
        for place, modality in ((1, "CT"), (2, "SR"))
    ),
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The UIDs of the resources that were made."""
    uids: list[str] = []

    def counted(row: Row, **named: Any) -> dict[str, Any]:
        uids.append(row["0020000D"]["Value"][0])
        return imaging_study(row, **named)

    monkeypatch.setattr(study_entries, "imaging_study", counted)
    return uids


async def test_each_resource_is_made_once_and_those_of_a_page_alone(made: list[str]) -> None:
    async with client_of(RowArchive(*MANY)) as client:
        url, seen = f"{client.url}/fhir/ImagingStudy?_count=10", set[str]()
        first = await client.page(TOKEN, url)
        assert len(made) == 10
        following = first["link"][1]["url"].partition("/fhir/")[2]
        await client.page(TOKEN, f"{client.url}/fhir/{following}")
        assert len(made) == len(set(made)) == 20
        for parameters in ([("_count", "20")], [("_sort", "-started"), ("_count", "20")]):
            (bundle, *_) = await client.pages(TOKEN, parameters)
            seen |= {each["resource"]["id"] for each in bundle["entry"]}
        assert sorted(made) == sorted(f"1.2.{number}" for number in range(1, 41))
        await client.pages(TOKEN, [("_summary", "true")])
        assert len(made) == 40
        for _ in range(2):  # Once more for another version.
            await client.pages(TOKEN, [("_format", "json;fhirVersion=5.0")])
        assert len(made) == 80


@pytest.mark.parametrize("parameters", [[], [("modality", "CT")], [("bodysite:missing", "true")]])
async def test_all_pages_compare_each_study_once(
    parameters: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    async def passing(
        studies: Sequence[ListedStudy], *rest: Any, **named: Any
    ) -> list[ListedStudy]:
        compared.extend(study.uid for study in studies)
        return await select.passing(studies, *rest, **named)

    monkeypatch.setattr(fhir_handlers, "passing", passing)
    async with client_of(RowArchive(*MANY)) as client:
        for _ in range(2):
            pages = await client.pages(TOKEN, [*parameters, ("_count", "7")])
            assert len(pages) == 6
            assert pages[-1]["total"] == 40
    assert len(compared) == 40


async def test_what_rules_hide_is_in_no_remembered_entry(made: list[str]) -> None:
    """Also not after somebody to whom the rule does not apply saw all of it."""
    async with client_of(RowArchive(*MANY), access={**ACCESS, "rules": [NO_SR]}) as client:
        for _ in range(2):
            assert SECRET in str(await client.pages("without-rules", []))
            pages = await client.pages(TOKEN, [])
            assert SECRET not in str(pages)
            assert "'SR'" not in str(pages)
            assert {each["resource"]["numberOfSeries"] for each in pages[0]["entry"]} == {1}
    assert len(made) == 40 + 40  # Once as a whole, once in part.


async def test_what_is_forgotten_is_not_found_in_a_snapshot(made: list[str]) -> None:
    """The list's generation is the snapshot's: both go together."""
    archive = RowArchive(*MANY)
    async with client_of(archive) as client:
        await client.pages(TOKEN, [])
        archive.rows = (study_row(1, StudyDescription="new"), *MANY[1:20])
        for forget in (
            client.sidecar.invalidation.invalidate,
            lambda: client.sidecar.invalidation.archive_changed({PATIENT}),
        ):
            made.clear()
            forget()
            (bundle,) = await client.pages(TOKEN, [])
            assert bundle["total"] == len(made) == 20
            assert "'new'" in str(bundle)
            archive.rows = archive.rows[:20]


async def test_what_is_kept_of_a_list_is_bounded(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit entries are made for each answer."""
    monkeypatch.setattr(listing, "DERIVED_BYTES", 10_000)
    async with client_of(RowArchive(*MANY)) as client:
        for _ in range(2):
            (bundle, *_) = await client.pages(TOKEN, [("_count", "40")])
            assert len(bundle["entry"]) == 40
    assert 50 < len(made) < 80


async def test_what_is_remembered_is_little_work_for_the_garbage_collector() -> None:
    """Also with rules, where each study is described, and shown in part."""
    async with client_of(RowArchive(*MANY), access={**ACCESS, "rules": [NO_SR]}) as client:
        await client.pages(TOKEN, [])
        client.sidecar.invalidation.invalidate()
        gc.collect()
        before = len(gc.get_objects())
        await client.pages(TOKEN, [("_summary", "count")])
        gc.collect()
        assert len(gc.get_objects()) - before < 40 * 6 + 50


async def test_what_is_remembered_of_long_searches_is_short() -> None:
    """Of each list there may be several: they count as little as their studies."""
    async with client_of(RowArchive(*MANY)) as client:
        await client.pages(TOKEN, [])
        tracemalloc.start()
        try:
            for number in range(8):
                codes = ",".join(f"{number}.{place}" for place in range(490))
                await client.pages(TOKEN, [("modality:not", codes), ("_count", "40")])
            assert tracemalloc.get_traced_memory()[0] < 300_000
        finally:
            tracemalloc.stop()
