"""Backend clients: what cannot be read gives nothing (SIA-13, 16)."""

import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import Unavailable
from sidecar.common.invalidation import NEGATIVE_SECONDS, Invalidation
from sidecar.ehr.credentials import StaticToken
from sidecar.ehr.fhir_client import FhirClient
from sidecar.patients.backend_clients import BackendClients, ClientEntry, Groups, PatientsFile
from tests.common.peer import Clock, Peer, Reply
from tests.permits import backend_client


def group(*members: Any, **more: Any) -> dict[str, Any]:
    """A Group resource."""
    return {"resourceType": "Group", "id": "g1", "member": list(members)} | more


def member(reference: Any = "Patient/p1", **more: Any) -> dict[str, Any]:
    """One of its members."""
    return {"entity": {"reference": reference}} | more


def groups(session: aiohttp.ClientSession, peer: Peer, **options: Any) -> Groups:
    """At this EHR."""
    client = FhirClient(session, peer.url + "/fhir", StaticToken(None), timeout_seconds=60)
    return Groups(client, **{"invalidation": Invalidation()} | options)


async def test_patients_come_from_list_file_and_group(
    session: aiohttp.ClientSession, peer: Peer, tmp_path: Path
) -> None:
    file = tmp_path / "patients"
    file.write_text("# those of the study\np2\n\n  p3  \n")
    peer.say(Reply(group(member("Patient/p4"), member(f"{peer.url}/fhir/Patient/p5"))))
    entry = ClientEntry(frozenset({"p1"}), file, ("g1",), {"StudyID": ("x",)}, rules=False)
    clients = BackendClients({"app": entry, "idle": ClientEntry()}, groups(session, peer))
    found = await clients.client("app")
    assert found == backend_client(
        frozenset({"p1", "p2", "p3", "p4", "p5"}), {"StudyID": ("x",)}, rules=False
    )
    assert peer.asked[0].target == "/fhir/Group/g1"
    assert await clients.client("idle") == backend_client()
    for nobody in ("other", "", None, "App"):
        assert await clients.client(nobody) is None


@pytest.mark.parametrize(
    "content",
    [b"p1\np2 p3\n", b"p1\n../etc\n", b"p1\n\xff\n", b"p1\n" + b"x" * 65 + b"\n", b"Patient/p1\n"],
)
def test_a_file_with_a_wrong_line_gives_nobody(tmp_path: Path, content: bytes) -> None:
    """Half of a list may be the wrong half."""
    file = tmp_path / "patients"
    file.write_bytes(content)
    assert PatientsFile(file).patients() == frozenset()


def test_a_file_is_read_anew_and_its_loss_takes_all(tmp_path: Path) -> None:
    file = tmp_path / "patients"
    file.write_text("p1\n")
    listed = PatientsFile(file)
    assert listed.patients() == {"p1"}
    os.replace(_written(tmp_path / "new", "p2\n"), file)
    assert listed.patients() == {"p2"}
    file.unlink()
    assert listed.patients() == frozenset()
    _written(file, "p3\n")
    assert listed.patients() == {"p3"}


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "one",
    [
        member(inactive=True),
        member(inactive="no"),
        member(period={"end": "2020-01-01"}),
        member("Practitioner/p1"),
        member(period={"start": "2999"}),
        member(period={"start": "2001", "end": "2002"}),
        member(period={"end": None}),
        member(period="2999"),
        member(period=[]),
        member("https://elsewhere.example.org/fhir/Patient/p1"),
        member("Patient/"),
        member("Patient/a/b"),
        member(None),
        {},
        None,
        "Patient/p1",
        {"entity": "Patient/p1"},
    ],
)
async def test_members_who_do_not_count(
    session: aiohttp.ClientSession, peer: Peer, one: Any
) -> None:
    peer.say(Reply(group(one, member("Patient/good"))))
    assert await groups(session, peer).members("g1") == {"good"}


@pytest.mark.parametrize(
    "period", [{}, {"start": "2001"}, {"end": "2999"}, {"start": "2001-02-03", "end": "2999-12"}]
)
async def test_members_who_count_for_a_time(
    session: aiohttp.ClientSession, peer: Peer, period: Any
) -> None:
    """An end that is still to come is none yet."""
    peer.say(Reply(group(member("Patient/good", period=period), active=True, actual=True)))
    assert await groups(session, peer).members("g1") == {"good"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(group(member(), active=False)),
        Reply(group(member(), actual=False)),
        Reply(group(member(), active="yes")),
        Reply(group(member(), actual=None)),
        Reply(group(member="p1")),
        Reply({}, 404),
        Reply(group() | {"member": {}}),
    ],
)
async def test_a_group_of_nobody(session: aiohttp.ClientSession, peer: Peer, reply: Reply) -> None:
    peer.say(reply)
    assert await groups(session, peer).members("g1") == frozenset()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=401),
        Reply(status=403),
        Reply("<html>"),
        Reply([]),
        Reply(group(id="g2")),
        Reply(group(resourceType="List")),
    ],
)
async def test_a_group_that_cannot_be_read_decides_nothing(
    session: aiohttp.ClientSession, peer: Peer, reply: Reply
) -> None:
    peer.say(reply)
    clients = BackendClients(
        {"app": ClientEntry(frozenset({"p1"}), groups=("g1",))}, groups(session, peer)
    )
    with pytest.raises(Unavailable):
        await clients.client("app")


async def test_a_group_is_remembered_for_a_while(
    session: aiohttp.ClientSession, peer: Peer
) -> None:
    clock = Clock()
    peer.say(Reply(group(member())))
    known = groups(session, peer, cache_ttl_seconds=300, clock=clock)
    for _ in range(3):
        assert await known.members("g1") == {"p1"}
    assert len(peer.asked) == 1
    peer.say(Reply(group()))
    clock.now += 301
    assert await known.members("g1") == frozenset()
    known._members.forget(None)
    await known.members("g1")
    assert len(peer.asked) == 3
    clock.now += NEGATIVE_SECONDS  # A Group of nobody: its members may come.
    await known.members("g1")
    assert len(peer.asked) == 4


@given(st.binary(max_size=60))
def test_any_file_gives_ids_or_nobody(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("clients") / "patients"
    file.write_bytes(content)
    assert all(one and " " not in one and "/" not in one for one in PatientsFile(file).patients())
