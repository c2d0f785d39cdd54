"""Everything that is kept is forgotten, also what is just being asked for; nothing that is kept is
left out (SIA-42).

``DeferredRequests`` and retrievals: ``tests/web/test_warmed_for_another.py`` and
``tests/pacs/test_deferred_requests.py``; half a list: ``tests/pacs/test_study_lists.py``; what
instances name: ``tests/pacs/test_instance_patients.py``; where pages begin:
``tests/web/test_cached_rows.py``.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cachetools import Cache, TTLCache
from jwt.algorithms import ECAlgorithm

from sidecar.bootstrap.build import Sidecar
from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.shared_generation import SharedGeneration
from sidecar.common.single_flight import SingleFlight
from sidecar.pacs.deferred_requests import DeferredRequests
from tests.common.peer import Peer, peer, session
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.tables.invalidation import (
    ELSEWHERE,
    FORGOTTEN,
    NOT_FORGOTTEN,
    Ask,
    Upstream,
    World,
    fresh_identifiers,
    identifiers,
    members,
    verdict,
)
from tests.tokens.signing import EC_KEY

__all__ = ["peer", "session"]


OF_THE_ARCHIVE = [
    case for case in FORGOTTEN if case not in (identifiers, fresh_identifiers, members, verdict)
]


async def ends(world: World, task: asyncio.Task[Any]) -> Any:
    """Let everything be answered until ``task`` ends."""
    async with asyncio.timeout(60):
        while not task.done():
            world.upstream.answer()
            await asyncio.sleep(0.001)
    return task.result()


@pytest.fixture
def world(peer: Peer, session: aiohttp.ClientSession) -> World:
    return World(Upstream(), Invalidation(), peer, session)


@pytest.mark.parametrize("case", FORGOTTEN, ids=lambda case: case.__name__)
async def test_what_is_asked_for_while_everything_is_forgotten(
    case: Callable[[World], Ask], world: World
) -> None:
    """Whoever asked before gets the answer; whoever asks after asks anew; and the old answer is not
    kept.
    """
    await _forgotten_in_mid_flight(world, case(world), world.kept.invalidate)


@pytest.mark.parametrize("case", FORGOTTEN, ids=lambda case: case.__name__)
async def test_what_is_asked_for_while_another_worker_forgets_everything(
    case: Callable[[World], Ask], peer: Peer, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The same when another process on this host was asked to forget."""
    world = World(Upstream(), Invalidation(shared=SharedGeneration(tmp_path)), peer, session)
    other = Invalidation(shared=SharedGeneration(tmp_path))
    await _forgotten_in_mid_flight(world, case(world), other.invalidate)


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
    backend = {
        "method": "backend_services",
        "client_id": "us",
        "private_key_file": files["jwk"],
        "key_id": "1",
        "algorithm": "ES384",
    }
    changes: dict[str, dict[str, Any]] = {
        "tokens": {"validation": "jwt_then_introspection", "audience": ["https://us.example.org"]},
        "patients": {"mapping": "ehr", "identifiers": [{"system": "urn:mrn"}], "client": backend},
        "pacs": {"dialect": "orthanc", "changes_url": "http://127.0.0.1:9"},
        "limits": {"defer_after_seconds": 10},
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
        "AuditTrail._inactive",
        "Constraints._read",
        "CountReport._reported",
        "MemoryStore._seen",
        "PacsClient._deferred",
        "RetrieveClient._deferred",
        "_Counter.labels",
        "_Histogram.labels",
    }


async def test_a_cache_that_nobody_registered_is_noticed(files: dict[str, str]) -> None:
    """Wherever it is: in an attribute, in a list, in what a function closes over."""
    added: list[Any] = [TTLCache(1, 1), SingleFlight(), [TTLCache(1, 1)]]
    async with built(files) as sidecar:
        before = kept_in(sidecar)
        vars(sidecar.pacs).update(_new=added[0], _newer=lambda: added)
        after = kept_in(sidecar)
    assert after.keys() - before.keys() == {
        "PacsClient._new",
        "a SingleFlight without a name",
        "a TTLCache without a name",
    }
