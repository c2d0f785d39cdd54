"""A Patient that is merged, inactive, unknown or unreadable gives no identifiers (SIA-16, 17)."""

import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import NEGATIVE_SECONDS
from tests.common.peer import Clock, Peer, Reply, all_that_is_said
from tests.patients.ehr_patients import NAME, TOKEN, VALUE, entry, mapping, person, problem_of
from tests.waiting import outlast


@pytest.mark.parametrize("status", [404, 410])
async def test_an_unknown_patient_has_no_identifiers(
    peer: Peer, session: aiohttp.ClientSession, status: int
) -> None:
    """SIA-17: and so no studies; kept for some seconds, however long a Patient is: the record may
    come.
    """
    clock = Clock()
    peer.say(Reply({"resourceType": "OperationOutcome"}, status), Reply(person(entry())))
    patients = mapping(peer, session, cache_ttl_seconds=300, clock=clock)
    for _ in range(2):
        assert await patients.identifiers("p1") == frozenset()
        clock.now += NEGATIVE_SECONDS - 1
    assert len(peer.asked) == 1
    clock.now += 1
    assert await patients.identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}


REPLACED = {"other": {"reference": "Patient/p2"}, "type": "replaced-by"}
MERGED: dict[str, Reply] = {
    "the other record": Reply(person(entry()) | {"id": "p2"}),
    "the other record, which says so": Reply(
        person(entry(), id="p2", link=[{"other": {"reference": "Patient/p1"}, "type": "replaces"}])
    ),
    "an id of another case": Reply(person(entry(), id="P1")),
    "the old record": Reply(person(entry(), active=False, link=[REPLACED])),
    "the old record, still active": Reply(person(entry(), link=[{"type": "seealso"}, REPLACED])),
    **{
        f"a redirect {status}": Reply("", status, {"Location": "/fhir/Patient/p2"})
        for status in (301, 302, 303, 307, 308)
    },
    "a relative redirect": Reply("", 301, {"Location": "p2"}),
    "a redirect to a version": Reply(
        "", 303, {"Location": "https://ehr.example.org/r4/Patient/p2/_history/1?_pretty"}
    ),
}


@pytest.mark.parametrize("case", MERGED)
async def test_a_merged_patient_is_refused(
    peer: Peer, session: aiohttp.ClientSession, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is for the old record: nobody is taken for its patient, the other record is not
    asked for, and it is said what it is. Kept as short as other refusals.
    """
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    peer.say(MERGED[case], Reply(person(entry("2"))))
    patients = mapping(peer, session, clock=clock)
    for _ in range(3):
        problem = await problem_of(patients)
        assert (problem.status, problem.reason, problem.retry_after) == (
            403,
            "patient_merged",
            None,
        )
        assert "Log in again" in problem.diagnostics
    assert [asked.target for asked in peer.asked] == ["/fhir/Patient/p1"]
    assert caplog.text.count("merged") == 1
    output = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, "4711", "p2", peer.url) if secret in output]
    clock.now += NEGATIVE_SECONDS
    assert await patients.identifiers("p1") == {PatientIdentifier("2", "HOSPITAL")}


async def test_a_record_that_is_not_active_is_refused(
    peer: Peer, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """R4 Patient.active, a modifier: false says that the record is not to be used. Kept as short as
    other refusals.
    """
    clock = Clock()
    peer.say(Reply(person(entry(), active=False)), Reply(person(entry("2"))))
    patients = mapping(peer, session, clock=clock)
    for _ in range(3):
        problem = await problem_of(patients)
        assert (problem.status, problem.reason, problem.retry_after) == (
            403,
            "patient_inactive",
            None,
        )
        assert "not in use" in problem.diagnostics
    assert caplog.text.count("not active") == 1
    output = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, "4711", peer.url) if secret in output]
    clock.now += NEGATIVE_SECONDS
    assert await patients.identifiers("p1") == {PatientIdentifier("2", "HOSPITAL")}


@pytest.mark.parametrize("active", ["false", "true", 0, 1, [], {}, None])
async def test_whether_it_is_active_must_be_clear(
    peer: Peer, session: aiohttp.ClientSession, active: Any
) -> None:
    peer.say(Reply(person(entry(), active=active)))
    problem = await problem_of(mapping(peer, session))
    assert (problem.status, problem.reason) == (502, "patient_wrong_shape")


async def test_the_surviving_record_is_a_patient_like_any_other(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Links of other kinds say that the record is in use."""
    links = [
        {"other": {"reference": "Patient/p0"}, "type": kind}
        for kind in ("replaces", "refer", "seealso")
    ]
    peer.say(Reply(person(entry(), link=links, active=True)))
    assert await mapping(peer, session).identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}


async def _slow(request: web.Request) -> web.StreamResponse:
    await outlast(60)


MINE = person(entry(VALUE))
FAULTS: dict[str, tuple[Reply, str]] = {
    "no id": (Reply({"resourceType": "Patient", "identifier": [entry()]}), "wrong_resource"),
    "id is no FHIR id": (Reply(MINE | {"id": "p 2"}), "wrong_resource"),
    "id is a list": (Reply(MINE | {"id": ["p1"]}), "wrong_resource"),
    "another resource": (Reply(MINE | {"resourceType": "Person"}), "wrong_resource"),
    "a Bundle": (
        Reply({"resourceType": "Bundle", "id": "p1", "entry": [{"resource": MINE}]}),
        "wrong_resource",
    ),
    "an outcome": (Reply({"resourceType": "OperationOutcome"}), "wrong_resource"),
    "identifier is an object": (Reply(MINE | {"identifier": entry()}), "wrong_shape"),
    "identifier is null": (Reply(MINE | {"identifier": None}), "wrong_shape"),
    "identifier twice": (
        Reply('{"resourceType": "Patient", "id": "p1", "identifier": [], "identifier": []}'),
        "not_json",
    ),
    "id twice": (Reply('{"resourceType": "Patient", "id": "p2", "id": "p1"}'), "not_json"),
    "not JSON": (Reply(f"<Patient><id value='p1'/>{NAME}</Patient>"), "not_json"),
    "an array": (Reply([MINE]), "not_an_object"),
    "500": (Reply(MINE, 500), "unexpected_status"),
    "304": (Reply("", 304), "unexpected_status"),
    "a redirect to a login": (
        Reply(MINE, 302, {"Location": "/login?for=/fhir/Patient/p2"}),
        "unexpected_status",
    ),
    "a redirect to itself": (
        Reply(MINE, 301, {"Location": "/fhir/Patient/p1/_history/2"}),
        "unexpected_status",
    ),
    "a redirect to nowhere": (Reply(MINE, 301), "unexpected_status"),
    "a redirect that is no URL": (
        Reply(MINE, 301, {"Location": "http://[/fhir/Patient/p2"}),
        "unexpected_status",
    ),
    "link is an object": (Reply(MINE | {"link": {"type": "replaced-by"}}), "wrong_shape"),
    "a link without type": (
        Reply(MINE | {"link": [{"other": {"reference": "Patient/p2"}}]}),
        "wrong_shape",
    ),
    "a link that is none": (Reply(MINE | {"link": ["replaced-by"]}), "wrong_shape"),
    "huge": (Reply(" " * 1_100_000), "too_large"),
    "slow": (Reply(write=_slow), "timeout"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_not_no_studies(
    peer: Peer, session: aiohttp.ClientSession, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-16: 503, or 502 for what asking again does not mend; not kept; no token, name, number or
    address is said.
    """
    caplog.set_level(logging.DEBUG)
    reply, reason = FAULTS[fault]
    peer.say(reply, Reply(person(entry())))
    patients = mapping(peer, session, timeout_seconds=60)
    problem = await problem_of(patients)
    is_misfit = reason in ("wrong_shape", "wrong_resource")
    assert (problem.status, problem.reason) == (502 if is_misfit else 503, f"patient_{reason}")
    assert is_misfit or (problem.retry_after or 0) > 0
    assert len(peer.asked) == 1
    output = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, VALUE, peer.url) if secret in output]
    assert await patients.identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}


async def test_nobody_listens(session: aiohttp.ClientSession) -> None:
    """SIA-16."""
    assert (
        await problem_of(mapping("http://127.0.0.1:9/fhir", session))
    ).reason == "patient_unreachable"
