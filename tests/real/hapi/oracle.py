"""One search, asked of us and of a HAPI FHIR that has the same resources, and how they differ."""

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests

from sidecar.demo.archive.app import ROOT, create_archive
from sidecar.fhir.imaging_study import study_id
from tests.background import Background
from tests.fakes.ehr import ScriptedEhr, active
from tests.real.hapi.server import ZONE, Hapi
from tests.real.hapi.studies import FIRST, LATER, LONG_UID, OTHER, PATIENT, Study, write
from tests.sidecar_process import SidecarProcess, free_port
from tests.waiting import wait_until

ACCESSIONS = "https://hospital.example.org/accession-numbers"
Json = dict[str, Any]
_SORTED = re.compile("_sort=[^&]")
_NUMBERS = {study_id(study.uid): str(study.number) for study in (*FIRST, *LATER)}


@dataclass(frozen=True)
class Answer:
    """``ids`` in their order, of all pages; ``total`` where it is said; ``ignored``: whether an
    OperationOutcome in the Bundle says that a part of the query was ignored.
    """

    status: int
    ids: tuple[str, ...] = ()
    total: int | None = None
    ignored: bool = False


class Searcher:
    """Asks for ImagingStudies below ``base``."""

    def __init__(self, base: str, **headers: str) -> None:
        self._base = base
        self._session = requests.Session()
        self._session.headers.update(headers)

    def search(self, query: str) -> Answer:
        """All pages of the answer."""
        url: str | None = f"{self._base}/ImagingStudy?{query}"
        ids: list[str] = []
        total, ignored = None, False
        while url is not None:
            answer = self._session.get(url, timeout=120)
            if answer.status_code != 200:
                return Answer(answer.status_code)
            bundle = answer.json()
            total = bundle.get("total", total)
            for entry in bundle.get("entry", []):
                ignored = ignored or entry["search"]["mode"] == "outcome"
                if entry["search"]["mode"] == "match":
                    ids.append(entry["resource"]["id"])
            links = {link["relation"]: link["url"] for link in bundle.get("link", [])}
            url = links.get("next")
        return Answer(200, tuple(ids), total, ignored)

    def now(self) -> list[Json]:
        """All that there is now, with the Endpoints."""
        url = f"{self._base}/ImagingStudy?_include=ImagingStudy:endpoint&_count=500"
        answer = self._session.get(url, headers={"Cache-Control": "no-cache"}, timeout=120)
        assert answer.status_code == 200, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", [])]


@dataclass(frozen=True)
class Both:
    """We and HAPI. ``between`` is a moment after the first studies came and before the later."""

    ours: Searcher
    theirs: Searcher
    between: str

    def difference(self, query: str) -> str | None:
        """Return how our answer differs from HAPI's; ``None`` when it does not."""
        written = query.format(between=self.between, long=study_id(LONG_UID))
        asked = f"patient={PATIENT}&{written}"
        # HAPI's first page of several may lack its next link where a study has several values.
        one_page = "" if "_count=" in query else "&_count=100"
        ours, theirs = self.ours.search(asked), self.theirs.search(asked + one_page)
        if 200 not in (ours.status, theirs.status):
            return None
        if ours.status != 200:
            return "we refuse"
        return "HAPI refuses" if theirs.status != 200 else _difference(ours, theirs, query)


def _difference(ours: Answer, theirs: Answer, query: str) -> str | None:
    """An order counts where it is asked for."""
    more, fewer = set(ours.ids) - set(theirs.ids), set(theirs.ids) - set(ours.ids)
    is_in_order = ours.ids == theirs.ids or not _SORTED.search(query)
    if len(set(ours.ids)) < len(ours.ids):
        return "one of ours is there twice"
    if ours.ignored and (more or fewer or not is_in_order):
        return "we ignore"
    if more or fewer:
        found = (("we find", more), ("HAPI finds", fewer))
        return "; ".join(f"{who} {_named(sorted(ids, key=_place))}" for who, ids in found if ids)
    if None not in (ours.total, theirs.total) and ours.total != theirs.total:
        return f"our total is {ours.total}, HAPI's {theirs.total}"
    return None if is_in_order else f"our order is {_named(ours.ids)}, HAPI's {_named(theirs.ids)}"


def _place(id_: str) -> int:
    return int(_NUMBERS[id_])


def _named(ids: Iterable[str]) -> str:
    """The numbers of the studies."""
    return " ".join(_NUMBERS[one] for one in ids)


@contextlib.contextmanager
def both_searched(folder: Path, hapi: Hapi) -> Iterator[Both]:
    """Start us before an archive of the studies, and give HAPI what we say of them."""
    files = folder / "files"
    files.mkdir()
    write(files, FIRST)
    port = free_port()
    with contextlib.ExitStack() as stack:
        background = stack.enter_context(Background())
        ehr = f"http://127.0.0.1:{background.serve(ScriptedEhr(active).app())}/fhir"
        configuration = {
            "ehr": {"fhir_url": ehr},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": f"http://127.0.0.1:{port}{ROOT}"},
            "fhir": {"detail": "instance", "timezone": ZONE, "accession_system": ACCESSIONS},
        }
        fhir = stack.enter_context(SidecarProcess(folder, configuration)).fhir
        of = {one: Searcher(fhir, Authorization=f"Bearer {one}") for one in (PATIENT, OTHER)}
        for patient in of:
            _put(hapi, [{"resourceType": "Patient", "id": patient}])
        with Background() as first:
            first.serve(create_archive(files), port)
            _load(hapi, of, ehr, FIRST)
        between = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        write(files, LATER)
        background.serve(create_archive(files), port)
        _load(hapi, of, ehr, LATER)
        yield Both(of[PATIENT], Searcher(hapi.base), between)


def _load(hapi: Hapi, of: Mapping[str, Searcher], ehr: str, studies: Collection[Study]) -> None:
    """Wait until we list the studies, and give HAPI what we say, with references that lead to its
    own Patients: it takes no others.
    """
    for patient, searcher in of.items():
        uids = {study.uid for study in studies if study.patient == patient}
        found = wait_until("the studies", searcher.now, partial(_has, uids))
        _put(hapi, json.loads(json.dumps(found).replace(f'"{ehr}/Patient/', '"Patient/')))


def _has(uids: Collection[str], resources: Sequence[Json]) -> bool:
    return all(any(study_id(uid) == one["id"] for one in resources) for uid in uids)


def _put(hapi: Hapi, resources: list[Json]) -> None:
    """In one transaction, whose resources have one ``meta.lastUpdated``."""
    entries = [
        {
            "resource": resource,
            "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
        }
        for resource in resources
    ]
    bundle: Json = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = requests.post(hapi.base, json=bundle, timeout=120)
    assert answer.status_code == 200, answer.text
