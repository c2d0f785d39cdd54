"""Caches, and how each is invalidated."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from sidecar.access.facts import Caller, DescribedStudy, Effect, Part, PatientIdentifier
from sidecar.access.permits import Interaction, PatientPermit
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.visible_studies_lookup import VisibleStudiesLookup
from sidecar.common.errors import Problem
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import CompactRow, Row
from sidecar.dicomweb.paths import Query
from sidecar.ehr.credentials import StaticToken
from sidecar.ehr.fhir_client import FhirClient
from sidecar.pacs.issuer_check import Issuers
from sidecar.pacs.ownership import Ownership, _Series
from sidecar.pacs.studies import AsOf, Studies
from sidecar.patients.backend_clients import Groups
from sidecar.patients.ehr_lookup import EhrMapping
from sidecar.web.query_pages import QueryKey, QueryPages, RowSource
from tests.common.peer import Clock, Peer, Reply
from tests.fakes.site import SITE
from tests.pacs.fake import FakePacs, row
from tests.permits import make_path, make_rule, patient_permit, rows_of
from tests.waiting import wait_until_async

TOKENS = "what a token is for: revocation has its own bound (docs/authorization.md)"
OURS = "nothing of a patient: our own access, or an endpoint's name or key"
LABELS = "a metric's children: labels are constants (docs/operations.md)"
NOT_FORGOTTEN = {
    "TokenCache._answers": TOKENS,
    "AuditTrail._inactive": TOKENS,
    "Discovery._configuration": OURS, "Jwks._keys": OURS, "Readiness._problems": OURS,
    "BackendServices._tokens": OURS,
    "Constraints._read": "a scope's text as a search: no answer of anybody",
    "CountReport._reported": "which studies the log has told of: no answer is made of it",
    "MemoryStore._seen": "fingerprints and times: to forget them would make every study count as changed, and what "
    "is seen late makes _lastUpdated later, never earlier",
    "_Counter.labels": LABELS, "_Histogram.labels": LABELS,
}  # fmt: skip
"""What no forgetting reaches, and why."""
P1 = frozenset({PatientIdentifier("p1")})
BOTH = P1 | {PatientIdentifier("p2")}
SERIES = Part("1.2", "1.2.3")
SOME_TIME = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass
class Upstream:
    """Answers what it says when it is asked, each time when it is let: like a slow archive, EHR,
    policy engine.
    """

    old: bool = True
    waiting: list[asyncio.Event] = field(default_factory=list)

    async def ask(self) -> bool:
        """Whether the old answer is given."""
        old, let = self.old, asyncio.Event()
        self.waiting.append(let)
        await let.wait()
        return old

    async def asked(self, times: int) -> None:
        """Wait for so many questions."""
        await wait_until_async("the questions", lambda: len(self.waiting) >= times)

    def answer(self) -> None:
        """All that was asked until now."""
        for let in self.waiting:
            let.set()


class Archive(FakePacs):
    """Has ``old`` rows, then ``new`` ones; what a search finds it knows when it is asked."""

    def __init__(self, upstream: Upstream, old: list[Any], new: list[Any]) -> None:
        super().__init__()
        self.upstream, self.old, self.new = upstream, old, new

    async def search(self, *arguments: Any, **named: Any) -> Any:
        """As ``FakePacs.search``."""
        rows = self.old if await self.upstream.ask() else self.new
        return await FakePacs(*rows).search(*arguments, **named)


@dataclass
class World:
    """What a case asks with; ``kept`` is what it shall forget."""

    upstream: Upstream
    kept: Invalidation
    peer: Peer
    session: aiohttp.ClientSession

    def archive(self, old: list[Any], new: list[Any]) -> Archive:
        """See there."""
        return Archive(self.upstream, old, new)

    def server(self, old: Any, new: Any) -> str:
        """An HTTP server that answers the one JSON, then the other."""

        async def write(request: web.Request) -> web.StreamResponse:
            return web.json_response(old if await self.upstream.ask() else new)

        self.peer.say(Reply(write=write))
        return self.peer.url


Ask = Callable[[], Awaitable[object]]


def owners(world: World) -> Ask:
    """Of a study that is then filed for somebody else."""
    asked = Ownership(
        world.archive([row("p1", "1.2")], [row("p2", "1.2")]),
        invalidation=world.kept,
        clock=Clock(),
    )
    return lambda: asked.owners("1.2", P1)


def refused(world: World) -> Ask:
    """Of a study that is then filed for the patient."""
    asked = Ownership(
        world.archive([row("p2", "1.2")], [row("p1", "1.2")]),
        invalidation=world.kept,
        clock=Clock(),
    )
    return lambda: asked.owners("1.2", P1)


def part(world: World) -> Ask:
    """A series that goes."""
    asked = Ownership(
        world.archive([row("p1", "1.2", "1.2.3")], []), invalidation=world.kept, clock=Clock()
    )
    return lambda: asked.holds(SERIES, P1)


def absent_part(world: World) -> Ask:
    """A series that comes."""
    asked = Ownership(
        world.archive([], [row("p1", "1.2", "1.2.3")]), invalidation=world.kept, clock=Clock()
    )
    return lambda: asked.holds(SERIES, P1)


def instances(world: World) -> Ask:
    """A series that a client walks through, whose second instance goes."""
    rows = [row("p1", "1.2", "1.2.3", f"1.2.3.{number}") for number in range(2)]
    asked = Ownership(world.archive(rows, rows[:1]), invalidation=world.kept, clock=Clock())
    asked._series.setdefault((SERIES, P1), _Series({"1.2.3.0"}))
    return lambda: asked.holds(Part("1.2", "1.2.3", "1.2.3.1"), P1)


def studies(world: World) -> Studies:
    """Lists of a patient whose study gets another series."""
    old, new = (row("p1", "1.2", series, Modality="CT") for series in ("1.2.3", "1.2.4"))
    archive = world.archive([old], [new])
    return Studies(
        archive, Ownership(archive, invalidation=world.kept), invalidation=world.kept, clock=Clock()
    )


def one_list(world: World) -> Ask:
    """A patient's list."""
    lists = studies(world)
    return lambda: _rows(lists.of_patient(rows_of(*P1)))


def joined_list(world: World) -> Ask:
    """The list of a patient with two numbers."""
    lists = studies(world)
    return lambda: _rows(lists.of_patient(rows_of(*BOTH)))


def fresh_list(world: World) -> Ask:
    """The list for a client that will not have what is kept."""
    lists = studies(world)
    return lambda: _rows(lists.of_patient(rows_of(*P1), fresh=True))


def details(world: World) -> Ask:
    """The series of a study."""
    lists = studies(world)
    return lambda: lists.series(rows_of(*P1), "1.2", AsOf(SOME_TIME))


def described(world: World) -> Ask:
    """What rules look at."""
    lists = studies(world)
    views = VisibleStudiesLookup(lists, SITE, rules=(), invalidation=world.kept, clock=Clock())
    paths = (make_path(rules=(make_rule("no SR", Effect.EXCLUDE, series={"Modality": ("SR",)}),)),)
    return lambda: _described(views, patient_permit("p1", Interaction.SEARCH, paths))


def query_rows(world: World) -> Ask:
    """A list whose second page is asked for."""
    archive = world.archive(
        [row("p1", "1.1"), row("p1", "1.2")], [row("p1", "1.1"), row("p1", "1.3")]
    )
    pages, query = QueryPages(world.kept, Clock()), Query("studies")

    async def read(offset: int, limit: int | None) -> tuple[int, list[Row]]:
        found = [
            CompactRow(one)
            for one in await archive.search(
                query, [], permit=rows_of(*P1), limit=limit, offset=offset
            )
        ]
        return len(found), list(found)

    async def decide(rows: list[Row]) -> list[tuple[Row, Row]]:
        return [(one, one) for one in rows]

    source = RowSource(read, decide, decide, takes_limit=False, takes_offset=False)
    return lambda: pages.page(QueryKey("hash", "p", P1, query, ()), source, offset=1, limit=1)


def issuers(world: World) -> Ask:
    """A number of one person, then of two."""
    rows = [row("p1", f"1.{name}", issuer=name) for name in ("A", "B")]
    asked = Issuers(world.archive(rows[:1], rows), invalidation=world.kept, clock=Clock())
    return lambda: _outcome(asked.check(P1))


def identifiers(world: World) -> Ask:
    """See there."""
    asked = identifiers_of(world)
    return lambda: asked.identifiers("p")


def identifiers_of(world: World) -> EhrMapping:
    """A Patient whose number is corrected."""

    def patient(number: str) -> dict[str, Any]:
        return {
            "resourceType": "Patient",
            "id": "p",
            "identifier": [{"system": "urn:mrn", "value": number}],
        }

    url = world.server(patient("1"), patient("2"))
    return EhrMapping(
        FhirClient(world.session, url, StaticToken(None), timeout_seconds=60),
        {"urn:mrn": None},
        invalidation=world.kept,
        clock=Clock(),
    )


def fresh_identifiers(world: World) -> Ask:
    """The same for a client that will not have what is kept."""
    asked = identifiers_of(world)
    return lambda: asked.identifiers("p", fresh=True)


def members(world: World) -> Ask:
    """A Group that a patient leaves."""

    def group(*patients: str) -> dict[str, Any]:
        found = [{"entity": {"reference": f"Patient/{one}"}} for one in patients]
        return {"resourceType": "Group", "id": "g", "member": found}

    url = world.server(group("p1", "p2"), group("p1"))
    asked = Groups(
        FhirClient(world.session, url, StaticToken(None), timeout_seconds=60),
        invalidation=world.kept,
        clock=Clock(),
    )
    return lambda: asked.members("g")


def verdict(world: World) -> Ask:
    """A policy that changes its mind."""
    url = world.server({"result": True}, {"result": False})
    asked = ExternalPolicy(
        world.session,
        url,
        timeout_seconds=60,
        cache_seconds=60,
        invalidation=world.kept,
        clock=Clock(),
    )
    permit = patient_permit("p1", Interaction.READ, caller=Caller())
    return lambda: asked.verdict(permit, "patient", "1.2", DescribedStudy({}))


async def _rows(listing: Awaitable[Any]) -> object:
    return (await listing).rows


async def _outcome(check: Awaitable[None]) -> object:
    try:
        await check
    except Problem as problem:
        return problem.reason
    return None


async def _described(views: VisibleStudiesLookup, permit: PatientPermit) -> object:
    return (await views.of(permit, rows_of(*P1))).rows


FORGOTTEN: dict[Callable[[World], Ask], set[str]] = {
    owners: {"Ownership._owners"},
    refused: {"Ownership._owners"},
    part: {"Ownership._series"},
    absent_part: {"Ownership._absent"},
    instances: {"Ownership._indexed"},
    one_list: {"StudyLists._listings", "StudyLists._asked"},
    joined_list: {"StudyLists._joined"},
    fresh_list: {"StudyLists._listings"},
    details: {"Studies._listings", "Studies._asked"},
    described: {"VisibleStudiesLookup._lists"},
    query_rows: {"QueryPages._rows"},
    issuers: {"Issuers._unique"},
    identifiers: {"EhrMapping._records"},
    fresh_identifiers: {"EhrMapping._records", "EhrMapping._refreshed"},
    members: {"Groups._members"},
    verdict: {"ExternalPolicy._verdicts"},
}
"""How it is shown that what is kept is forgotten in mid-flight -> what that is."""
ELSEWHERE = {
    "PacsClient._deferred", "RetrieveClient._deferred", "StudyLists._arrived", "QueryPages._starts",
    "InstancePatients._own", "InstancePatients._refused",
}  # fmt: skip
