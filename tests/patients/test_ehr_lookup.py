"""Readings of the EHR's Patient are cached, shared and made with our credentials (SIA-16, 17)."""

import asyncio
import logging

import aiohttp
import pytest
from aiohttp import web

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.invalidation import FRESH_SECONDS
from tests.common.peer import Clock, Peer, Reply, all_that_is_said
from tests.patients.ehr_patients import NAME, TOKEN, entry, mapping, person, problem_of


class Renewing:
    """Credentials whose token is a new one after each ``forget``."""

    def __init__(self) -> None:
        self.number = 1

    async def token(self) -> str:
        return f"{TOKEN}-{self.number}"

    def forget(self) -> None:
        self.number += 1


async def test_whoever_will_not_have_what_is_kept_asks_the_ehr(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """At a limited rate, each patient for himself; also what is known is asked for anew."""
    clock = Clock()
    patients = mapping(peer, session, clock=clock)
    peer.say(Reply({}, 404), Reply(person(entry("1"))), Reply(person(entry("2"))))
    assert await patients.identifiers("p1") == frozenset()
    for number in ("1", "2"):
        for _ in range(5):
            assert await patients.identifiers("p1", fresh=True) == {
                PatientIdentifier(number, "HOSPITAL")
            }
        clock.now += FRESH_SECONDS
    assert len(peer.asked) == 3


async def test_a_failure_for_one_who_asks_anew_takes_nothing_from_others(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(Reply(person(entry())), Reply({}, 503))
    patients = mapping(peer, session)
    kept = await patients.identifiers("p1")
    with pytest.raises(Unavailable):
        await patients.identifiers("p1", fresh=True)
    assert await patients.identifiers("p1") == kept


async def test_a_refused_token_is_renewed_once(peer: Peer, session: aiohttp.ClientSession) -> None:
    """Revoked before its time: the caller notices nothing."""
    peer.say(Reply("", 401), Reply(person(entry())))
    patients = mapping(peer, session, credentials=Renewing())
    assert await patients.identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}
    assert [asked.headers["Authorization"] for asked in peer.asked] == [
        f"Bearer {TOKEN}-1",
        f"Bearer {TOKEN}-2",
    ]


@pytest.mark.parametrize(("statuses", "requests"), [([401, 401], 2), ([403], 1), ([401, 403], 2)])
async def test_our_own_access_is_refused(
    peer: Peer,
    session: aiohttp.ClientSession,
    statuses: list[int],
    requests: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """502 after one retry: not the caller's fault, and the operators read what to look at; not
    kept.
    """
    caplog.set_level(logging.DEBUG)
    challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    refusals = [Reply({"issue": NAME}, status, challenge) for status in statuses]
    peer.say(*refusals, Reply(person(entry())))
    patients = mapping(peer, session, credentials=Renewing())
    problem = await problem_of(patients)
    assert isinstance(problem, BadGateway)
    told = f"patient_refused (status {statuses[-1]}, insufficient_scope)"
    assert problem.for_operators() == told
    assert len(peer.asked) == requests
    assert "check patients.client" in caplog.text
    output = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, peer.url) if secret in output]
    assert await patients.identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}


async def test_a_failure_of_the_credentials_is_passed_on(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """SIA-16: without our token nothing is asked."""

    class Failing(Renewing):
        async def token(self) -> str:
            raise Unavailable("Not now.", reason="backend_token_timeout")

    assert (
        await problem_of(mapping(peer, session, credentials=Failing()))
    ).reason == "backend_token_timeout"
    assert peer.asked == []


async def test_an_answer_is_kept_for_a_while(peer: Peer, session: aiohttp.ClientSession) -> None:
    """``limits.patient_cache_seconds``, for each patient his own."""
    clock = Clock()
    peer.say(
        Reply(person(entry("1"))), Reply(person(entry("2"), id="p2")), Reply(person(entry("3")))
    )
    patients = mapping(peer, session, cache_ttl_seconds=300, clock=clock)
    first, second = {PatientIdentifier("1", "HOSPITAL")}, {PatientIdentifier("2", "HOSPITAL")}
    assert [await patients.identifiers("p1"), await patients.identifiers("p2")] == [first, second]
    clock.now += 299.9
    assert [await patients.identifiers("p1"), await patients.identifiers("p2")] == [first, second]
    assert [asked.target for asked in peer.asked] == ["/fhir/Patient/p1", "/fhir/Patient/p2"]
    clock.now += 0.1
    assert await patients.identifiers("p1") == {PatientIdentifier("3", "HOSPITAL")}


async def _anyone(request: web.Request) -> web.StreamResponse:
    name = request.path.rpartition("/")[2]
    return web.json_response(person(entry(f"mrn-{name}"), id=name))


async def test_the_cache_is_bounded(peer: Peer, session: aiohttp.ClientSession) -> None:
    """Each token brings one patient, many tokens many."""
    peer.say(Reply(write=_anyone))
    patients = mapping(peer, session, max_entries=5)
    for number in range(20):
        await patients.identifiers(f"p{number}")
    assert len(patients._records) <= 5


async def test_patients_asked_for_at_the_same_time_are_not_mixed_up(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """SIA-12: sharing a reading is for one patient only."""
    peer.say(Reply(write=_anyone))
    patients = mapping(peer, session)
    names = [f"p{number % 20}" for number in range(100)]
    identifiers = await asyncio.gather(*(patients.identifiers(name) for name in names))
    assert identifiers == [{PatientIdentifier(f"mrn-{name}", "HOSPITAL")} for name in names]
    assert len(peer.asked) == 20


async def test_one_reading_for_all_that_wait(peer: Peer, session: aiohttp.ClientSession) -> None:
    """A viewer that asks for many instances at once; one of its requests is cancelled."""
    peer.say(Reply(person(entry())))
    patients = mapping(peer, session)
    waiting = [asyncio.create_task(patients.identifiers("p1")) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert set(map(str, results[1:])) == {str(frozenset({PatientIdentifier("4711", "HOSPITAL")}))}
    assert len(peer.asked) == 1
    await patients.close()
