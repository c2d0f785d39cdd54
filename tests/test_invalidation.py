"""Everything that is kept is forgotten, also what is just being asked for; nothing that is kept is
left out (SIA-42).

``DeferredRequests`` and retrievals: ``tests/web/test_warmed_for_another.py`` and
``tests/pacs/test_deferred_requests.py``; half a list: ``tests/pacs/test_study_lists.py``; what instances
name: ``tests/pacs/test_instance_patients.py``; where pages begin:
``tests/web/test_query_pages.py``.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cachetools import Cache, TTLCache
from jwt.algorithms import ECAlgorithm

from sidecar.access.facts import Caller, DescribedStudy, Effect, Part, PatientIdentifier
from sidecar.access.permits import Interaction, PatientPermit
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.scope_constraints import Constraints
from sidecar.authorization.visible_studies import VisibleStudiesLookup
from sidecar.bootstrap.build import Sidecar
from sidecar.common.errors import Problem
from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.single_flight import SingleFlight
from sidecar.dicom.json_model import CompactRow, Row
from sidecar.dicomweb.paths import Query
from sidecar.ehr.credentials import NoToken
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.issuer_check import Issuers
from sidecar.pacs.ownership import Ownership, _Series
from sidecar.pacs.studies import AsOf, Studies
from sidecar.patients.backend_clients import Groups
from sidecar.patients.ehr_lookup import EhrMapping
from sidecar.web.query_pages import QueryKey, QueryPages, RowSource
from tests.common.peer import Clock, Peer, Reply, peer, session
from tests.pacs.fake import FakePacs, row
from tests.permits import make_rule, make_way, patient_permit
from tests.tokens.signing import EC_KEY
from tests.upstreams import SITE, ScriptedEhr, ScriptedPacs, sidecar_between
from tests.waiting import wait_until_async

__all__ = ["peer", "session"]

TOKENS = "what a token is for: revocation has its own bound (docs/authorization.md)"
OURS = "nothing of a patient: our own access, or an endpoint's name or key"
NOT_FORGOTTEN = {
    "TokenCache._answers": TOKENS,
    "AuditTrail._inactive": TOKENS,
    "Discovery._configuration": OURS, "Jwks._keys": OURS, "Readiness._problems": OURS,
    "BackendServices._tokens": OURS,
    "Invalidation._forgotten": "which studies were forgotten: with nothing kept, that says nothing",
    "Constraints._read": "a scope's text as a search: no answer of anybody",
    "CountReport._reported": "which studies the log has told of: no answer is made of it",
    "MemoryStore._seen": "fingerprints and times: to forget them would make every study count as changed, and what "
    "is seen late makes _lastUpdated later, never earlier",
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
    return Studies(archive, Ownership(archive), invalidation=world.kept, clock=Clock())


def one_list(world: World) -> Ask:
    """A patient's list."""
    lists = studies(world)
    return lambda: _rows(lists.of_patient(P1))


def joined_list(world: World) -> Ask:
    """The list of a patient with two numbers."""
    lists = studies(world)
    return lambda: _rows(lists.of_patient(BOTH))


def fresh_list(world: World) -> Ask:
    """The list for a client that will not have what is kept."""
    lists = studies(world)
    return lambda: _rows(lists.of_patient(P1, fresh=True))


def details(world: World) -> Ask:
    """The series of a study."""
    lists = studies(world)
    return lambda: lists.series("1.2", P1, AsOf(SOME_TIME))


def described(world: World) -> Ask:
    """What rules look at."""
    lists = studies(world)
    views = VisibleStudiesLookup(
        lists, SITE, Constraints(SITE), invalidation=world.kept, clock=Clock()
    )
    ways = (make_way(rules=(make_rule("no SR", Effect.EXCLUDE, series={"Modality": ("SR",)}),)),)
    return lambda: _described(views, patient_permit("p1", Interaction.SEARCH, ways))


def query_rows(world: World) -> Ask:
    """A list whose second page is asked for."""
    archive = world.archive(
        [row("p1", "1.1"), row("p1", "1.2")], [row("p1", "1.1"), row("p1", "1.3")]
    )
    pages, query = QueryPages(world.kept, Clock()), Query("studies")

    async def read(offset: int, limit: int | None) -> tuple[int, list[Row]]:
        found = [
            CompactRow(one) for one in await archive.search(query, [], limit=limit, offset=offset)
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
        world.session,
        url,
        {"urn:mrn": None},
        NoToken(),
        timeout_seconds=60,
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
        world.session, url, NoToken(), timeout_seconds=60, invalidation=world.kept, clock=Clock()
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
    return (await views.of(permit, P1)).rows


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
    identifiers: {"EhrMapping._known"},
    fresh_identifiers: {"EhrMapping._known"},
    members: {"Groups._members"},
    verdict: {"ExternalPolicy._verdicts"},
}
"""How it is shown that what is kept is forgotten in mid-flight -> what that is."""
ELSEWHERE = {
    "PacsClient._deferred", "RetrieveClient._deferred", "StudyLists._arrived", "QueryPages._starts",
    "InstancePatients._own", "InstancePatients._refused",
}  # fmt: skip
OF_THE_ARCHIVE = [
    case for case in FORGOTTEN if case not in (identifiers, fresh_identifiers, members, verdict)
]


@pytest.fixture
def world(peer: Peer, session: aiohttp.ClientSession) -> World:
    return World(Upstream(), Invalidation(), peer, session)


async def ends(world: World, task: asyncio.Task[Any]) -> Any:
    """Let everything be answered until ``task`` ends."""
    async with asyncio.timeout(60):
        while not task.done():
            world.upstream.answer()
            await asyncio.sleep(0.001)
    return task.result()


@pytest.mark.parametrize("case", FORGOTTEN, ids=lambda case: case.__name__)
async def test_what_is_asked_for_while_everything_is_forgotten(
    case: Callable[[World], Ask], world: World
) -> None:
    """Whoever asked before gets the answer; whoever asks after asks anew; and the old answer is not
    kept.
    """
    await _forgotten_in_mid_flight(world, case(world), world.kept.invalidate)


@pytest.mark.parametrize("case", OF_THE_ARCHIVE, ids=lambda case: case.__name__)
async def test_what_is_asked_for_while_the_patient_changes(
    case: Callable[[World], Ask], world: World
) -> None:
    """The same when the archive's /changes tell of this patient alone."""
    await _forgotten_in_mid_flight(world, case(world), lambda: world.kept.archive_changed({"p1"}))


async def _forgotten_in_mid_flight(world: World, ask: Ask, forget: Callable[[], None]) -> None:
    early = asyncio.ensure_future(ask())
    await world.upstream.asked(1)
    under_way = list(world.upstream.waiting)
    forget()
    world.upstream.old = False
    late = asyncio.ensure_future(ask())
    await world.upstream.asked(len(under_way) + 1)
    new = await ends_without(world, late, under_way)
    old = await ends(world, early)
    assert old != new
    assert await ends(world, asyncio.ensure_future(ask())) == new


async def ends_without(world: World, task: asyncio.Task[Any], held: list[asyncio.Event]) -> Any:
    """The same, while those that were under way wait on."""
    async with asyncio.timeout(60):
        while not task.done():
            for let in world.upstream.waiting:
                if all(let is not one for one in held):
                    let.set()
            await asyncio.sleep(0.001)
    return task.result()


@pytest.mark.parametrize("case", FORGOTTEN, ids=lambda case: case.__name__)
async def test_what_is_kept_is_forgotten(case: Callable[[World], Ask], world: World) -> None:
    """And kept until then: else the other tests would say nothing."""
    ask = case(world)
    old = await ends(world, asyncio.ensure_future(ask()))
    asked = len(world.upstream.waiting)
    world.upstream.old = False
    assert await ends(world, asyncio.ensure_future(ask())) == old
    assert len(world.upstream.waiting) == asked
    world.kept.invalidate()
    assert await ends(world, asyncio.ensure_future(ask())) != old


KINDS = (LoadingCache, Cache, SingleFlight, DeferredRequests, _lru_cache_wrapper)


def kept_in(root: object) -> dict[str, Any]:
    """Everything that keeps answers and can be reached from ``root``, by the attribute that holds
    it.
    """
    seen, pending, named, found = dict[int, object](), [root], dict[int, str](), list[Any]()
    # By identity, and alive: the attributes of some (typing.re) are made when asked for, and
    # another object would have the place of those that are gone.
    spaces = [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    modules = {id(space) for space in spaces}
    while pending:
        one = pending.pop()
        if (
            id(one) in seen
            or id(one) in modules
            or isinstance(one, type(sys) | type | asyncio.AbstractEventLoop)
        ):
            continue
        seen[id(one)] = one  # Alive: another one with this id would be passed over.
        if type(one).__module__.startswith("sidecar."):
            named |= {id(value): f"{type(one).__name__}.{name}" for name, value in _attributes(one)}
        if isinstance(one, KINDS):
            found.append(one)
        pending += gc.get_referents(one)
    # Functions of libraries may keep what they compute: with us such a function is an attribute.
    ours = [one for one in found if id(one) in named or not isinstance(one, _lru_cache_wrapper)]
    by_name = {named.get(id(one), f"a {type(one).__name__} without a name"): one for one in ours}
    # What a LoadingCache is made of is forgotten with it.
    return {name: one for name, one in by_name.items() if not name.startswith("LoadingCache.")}


def _attributes(one: object) -> Iterator[tuple[str, object]]:
    for name in {*getattr(one, "__dict__", {}), *getattr(type(one), "__slots__", ())}:
        yield name, getattr(one, name, None)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """What a configuration names."""
    found = {name: str(tmp_path / name) for name in ("keys", "audit", "jwk")}
    Path(found["keys"]).write_text(f"one {'1' * 64}\n")
    Path(found["jwk"]).write_text(ECAlgorithm.to_jwk(EC_KEY))
    return found


@asynccontextmanager
async def built(files: dict[str, str]) -> AsyncIterator[Sidecar]:
    """The product with everything switched on that keeps something."""
    backend = {"method": "backend_services", "client_id": "us", "private_key_file": files["jwk"],
               "key_id": "1", "algorithm": "ES384"}  # fmt: skip
    changes: dict[str, dict[str, Any]] = {
        "tokens": {"validation": "jwt_then_introspection", "audience": ["https://us.example.org"]},
        "patients": {"mapping": "ehr", "identifiers": [{"system": "urn:mrn"}], "client": backend},
        "pacs": {"dialect": "orthanc", "patience_seconds": 10, "changes_url": "http://127.0.0.1:9"},
        "access": {"external": {"url": "http://127.0.0.1:9/policy"}},
        "capabilities": {"mode": "token_bound", "keys_file": files["keys"]},
        "audit": {"sink": "file", "file": files["audit"]},
    }

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """No retrieval is asked for."""

    async with sidecar_between(ScriptedEhr(), ScriptedPacs(nothing), **changes) as (_, sidecar):
        yield sidecar


async def test_nothing_that_is_kept_is_left_out(files: dict[str, str]) -> None:
    """Every cache and every call that is shared is forgotten with the others, or a line above says
    why not.
    """
    async with built(files) as sidecar:
        found = kept_in(sidecar)
        forgotten = {name for name, kept in found.items() if kept in sidecar.invalidation}
    assert forgotten == ELSEWHERE.union(*FORGOTTEN.values())
    assert found.keys() - forgotten == NOT_FORGOTTEN.keys()


async def test_what_answers_others_gave_is_in_a_loading_cache(files: dict[str, str]) -> None:
    """It registers itself. What is kept otherwise is no answer: a line above says what it is."""
    async with built(files) as sidecar:
        others = {
            name for name, kept in kept_in(sidecar).items() if not isinstance(kept, LoadingCache)
        }
    assert others == {
        "AuditTrail._inactive", "Constraints._read", "CountReport._reported", "Invalidation._forgotten",
        "MemoryStore._seen", "PacsClient._deferred", "RetrieveClient._deferred",
    }  # fmt: skip


async def test_a_cache_that_nobody_registered_is_noticed(files: dict[str, str]) -> None:
    """Wherever it is: in an attribute, in a list, in what a function closes over."""
    added: list[Any] = [TTLCache(1, 1), SingleFlight(), [TTLCache(1, 1)]]
    async with built(files) as sidecar:
        before = kept_in(sidecar)
        vars(sidecar.pacs).update(_new=added[0], _newer=lambda: added)
        after = kept_in(sidecar)
    assert after.keys() - before.keys() == {
        "PacsClient._new", "a SingleFlight without a name", "a TTLCache without a name",
    }  # fmt: skip
