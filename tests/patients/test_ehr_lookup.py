"""Mapping ``ehr``: which identifiers of the EHR's Patient become PatientIDs, and what goes wrong
(SIA-16, SIA-17).
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import PatientIdentifier, is_fhir_id
from sidecar.common.errors import BadGateway, Problem, Unavailable
from sidecar.common.fetch import FetchFailed
from sidecar.common.invalidation import FRESH_SECONDS, NEGATIVE_SECONDS, Invalidation
from sidecar.ehr.credentials import StaticToken
from sidecar.ehr.fhir_client import FhirClient
from sidecar.patients.ehr_lookup import EhrMapping, PatientMerged
from tests.common.peer import Clock, Peer, Reply, all_that_is_said
from tests.waiting import forever

MRN, OTHER_MRN, UNKNOWN = (
    "urn:oid:1.2.3",
    "https://hospital.example.org/mrn",
    "http://hl7.org/fhir/sid/us-ssn",
)
ISSUERS = {MRN: "HOSPITAL", OTHER_MRN: None}
TOKEN = "a-recognizable-token"
NAME, VALUE = "A-Recognizable-Name", "a-recognizable-mrn"


class Renewing:
    """Credentials whose token is a new one after each ``forget``."""

    def __init__(self) -> None:
        self.number = 1

    async def token(self) -> str:
        return f"{TOKEN}-{self.number}"

    def forget(self) -> None:
        self.number += 1


def person(*identifiers: Any, **members: Any) -> dict[str, Any]:
    """A Patient resource."""
    return {
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"family": NAME}],
        "identifier": [*identifiers],
    } | members


def entry(value: object = "4711", system: object = MRN, **members: Any) -> dict[str, Any]:
    """One of its identifiers."""
    return {"system": system, "value": value} | members


def mapping(peer: Peer | str, session: aiohttp.ClientSession, **options: Any) -> EhrMapping:
    """The mapping at ``peer``."""
    url = peer if isinstance(peer, str) else f"{peer.url}/fhir"
    credentials = options.pop("credentials", None) or StaticToken(TOKEN)
    client = FhirClient(session, url, credentials, options.pop("timeout_seconds", 60))
    return EhrMapping(client, ISSUERS, **{"invalidation": Invalidation()} | options)


async def problem_of(patients: EhrMapping) -> Problem:
    """The failure that a request meets."""
    with pytest.raises(Problem) as failed:
        await patients.identifiers("p1")
    return failed.value


UNKNOWN_USES: tuple[Any, ...] = ("OLD", "", "nickname", None, ["usual"], {}, 1)
PICKED: dict[str, tuple[dict[str, Any], set[PatientIdentifier]]] = {
    "by system": (
        person(entry(), entry("123-45-6789", UNKNOWN)),
        {PatientIdentifier("4711", "HOSPITAL")},
    ),
    "several": (
        person(entry("1"), entry("2"), entry("3", OTHER_MRN), entry("1")),
        {
            PatientIdentifier("1", "HOSPITAL"),
            PatientIdentifier("2", "HOSPITAL"),
            PatientIdentifier("3"),
        },
    ),
    "same value, two systems": (
        person(entry("1"), entry("1", OTHER_MRN)),
        {PatientIdentifier("1", "HOSPITAL"), PatientIdentifier("1")},
    ),
    "spaces": (person(entry(" 4711 ")), {PatientIdentifier("4711", "HOSPITAL")}),
    "leading zeros stay": (person(entry("0047")), {PatientIdentifier("0047", "HOSPITAL")}),
    "other uses": (
        person(
            *(
                entry(str(n), use=use)
                for n, use in enumerate(("usual", "official", "temp", "secondary"))
            )
        ),
        {PatientIdentifier(str(n), "HOSPITAL") for n in range(4)},
    ),
    "old": (person(entry(use="old"), entry("2")), {PatientIdentifier("2", "HOSPITAL")}),
    "use": (
        person(*(entry(str(n), use=use) for n, use in enumerate(UNKNOWN_USES)), entry("9")),
        {PatientIdentifier("9", "HOSPITAL")},
    ),
    "period": (
        person(
            entry("1", period={"end": "2001-01-01"}),
            entry("2", period={"start": "2999"}),
            entry("3", period="2999"),
            entry("4", period={"start": "2001", "end": "2999-01-01"}),
            entry("5", period={"start": "2001-02-03T04:05:06Z"}),
            entry("6", period={"end": "never"}),
            entry("7", OTHER_MRN, period={"end": "2001"}),
        ),
        {PatientIdentifier("4", "HOSPITAL"), PatientIdentifier("5", "HOSPITAL")},
    ),
    "the same number, once ended and once not": (
        person(entry("1", period={"end": "2001"}), entry("1")),
        {PatientIdentifier("1", "HOSPITAL")},
    ),
    "active": (person(entry(), active=True), {PatientIdentifier("4711", "HOSPITAL")}),
    "wildcards and lists": (
        person(
            *(entry(v) for v in ("*", "47*", "47?1", "1,2", "1\\2", "a\nb", "x" * 65, "", "  ")),
            entry("2"),
        ),
        {PatientIdentifier(value, "HOSPITAL") for value in ("*", "47*", "47?1", "1,2", "2")},
    ),
    "odd entries": (
        person(
            None,
            "4711",
            4711,
            [],
            {},
            entry(4711),
            entry(None),
            entry({"value": "4711"}),
            entry(["4711"]),
            entry(system=None),
            entry(system=[MRN]),
            entry(system=MRN.upper()),
            entry(system=f"{MRN} "),
            entry(system=f"{MRN}.4"),
            {"value": "4711"},
            {"system": MRN},
            entry("2"),
        ),
        {PatientIdentifier("2", "HOSPITAL")},
    ),
    "none": (person(), set()),
    "no member": ({"resourceType": "Patient", "id": "p1"}, set()),
}


@pytest.mark.parametrize("case", PICKED)
async def test_which_identifiers_are_picked(
    peer: Peer, session: aiohttp.ClientSession, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-17: those of the configured systems, to the letter, with the configured issuer; what is
    odd is left out.
    """
    resource, expected = PICKED[case]
    peer.say(Reply(resource))
    assert await mapping(peer, session).identifiers("p1") == expected
    asked = peer.asked[0]
    assert (asked.method, asked.target) == ("GET", "/fhir/Patient/p1")
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["Accept"] == "application/fhir+json"
    assert "4711" not in caplog.text
    assert ("left out" in caplog.text) == (case == "wildcards and lists")


async def test_without_credentials_no_token_is_sent(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Method ``none``."""
    peer.say(Reply(person(entry())))
    await mapping(peer, session, credentials=StaticToken(None)).identifiers("p1")
    assert "Authorization" not in peer.asked[0].headers


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
    said = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, "4711", "p2", peer.url) if secret in said]
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
    said = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, "4711", peer.url) if secret in said]
    clock.now += NEGATIVE_SECONDS
    assert await patients.identifiers("p1") == {PatientIdentifier("2", "HOSPITAL")}


@pytest.mark.parametrize("active", ["false", "true", 0, 1, [], {}, None])
async def test_whether_it_is_active_must_be_clear(
    peer: Peer, session: aiohttp.ClientSession, active: Any
) -> None:
    peer.say(Reply(person(entry(), active=active)))
    problem = await problem_of(mapping(peer, session))
    assert (problem.status, problem.reason) == (502, "patient_wrong_shape")


async def test_an_identifier_ends_while_the_process_runs(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """It counts until its end, and no longer than what is kept after that."""
    clock, today = Clock(), [datetime(2024, 5, 17, tzinfo=UTC)]
    peer.say(Reply(person(entry(period={"end": "2024-05-17T01:00:00Z"}))))
    patients = mapping(peer, session, cache_ttl_seconds=300, clock=clock, now=lambda: today[0])
    assert await patients.identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}
    today[0] += timedelta(hours=2)
    clock.now += 301
    assert await patients.identifiers("p1") == frozenset()


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
    await forever()


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
    patients = mapping(peer, session, timeout_seconds=0.2 if reason == "timeout" else 60)
    problem = await problem_of(patients)
    is_misfit = reason in ("wrong_shape", "wrong_resource")
    assert (problem.status, problem.reason) == (502 if is_misfit else 503, f"patient_{reason}")
    assert is_misfit or (problem.retry_after or 0) > 0
    assert len(peer.asked) == 1
    said = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, VALUE, peer.url) if secret in said]
    assert await patients.identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}


async def test_a_failure_for_one_who_asks_anew_takes_nothing_from_others(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(Reply(person(entry())), Reply({}, 503))
    patients = mapping(peer, session)
    kept = await patients.identifiers("p1")
    with pytest.raises(Unavailable):
        await patients.identifiers("p1", fresh=True)
    assert await patients.identifiers("p1") == kept


async def test_nobody_listens(session: aiohttp.ClientSession) -> None:
    """SIA-16."""
    assert (
        await problem_of(mapping("http://127.0.0.1:9/fhir", session))
    ).reason == "patient_unreachable"


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
    peer.say(*(Reply({"issue": NAME}, status) for status in statuses), Reply(person(entry())))
    patients = mapping(peer, session, credentials=Renewing())
    problem = await problem_of(patients)
    assert isinstance(problem, BadGateway)
    assert problem.reason == "patient_refused"
    assert len(peer.asked) == requests
    assert "check patients.client" in caplog.text
    said = all_that_is_said(caplog, problem)
    assert not [secret for secret in (TOKEN, NAME, peer.url) if secret in said]
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
    one, two = {PatientIdentifier("1", "HOSPITAL")}, {PatientIdentifier("2", "HOSPITAL")}
    assert [await patients.identifiers("p1"), await patients.identifiers("p2")] == [one, two]
    clock.now += 299.9
    assert [await patients.identifiers("p1"), await patients.identifiers("p2")] == [one, two]
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
    assert len(patients._known) <= 5


async def test_patients_asked_for_at_the_same_time_are_not_mixed_up(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """SIA-12: sharing a reading is for one patient only."""
    peer.say(Reply(write=_anyone))
    patients = mapping(peer, session)
    names = [f"p{number % 20}" for number in range(100)]
    found = await asyncio.gather(*(patients.identifiers(name) for name in names))
    assert found == [{PatientIdentifier(f"mrn-{name}", "HOSPITAL")} for name in names]
    assert len(peer.asked) == 20


async def test_one_reading_for_all_that_wait(peer: Peer, session: aiohttp.ClientSession) -> None:
    """A viewer that asks for many instances at once; one of its requests is cancelled."""
    peer.say(Reply(person(entry())))
    patients = mapping(peer, session)
    waiting = [asyncio.create_task(patients.identifiers("p1")) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert set(map(str, found[1:])) == {str(frozenset({PatientIdentifier("4711", "HOSPITAL")}))}
    assert len(peer.asked) == 1
    await patients.close()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([MRN, "old", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["system", "value", "use"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)
ENTRIES = (
    st.fixed_dictionaries({"system": st.just(MRN) | JSON, "value": st.text(max_size=5) | JSON})
    | JSON
)


@given(
    st.lists(ENTRIES, max_size=4) | JSON,
    st.sampled_from(["Patient", "Person"]) | JSON,
    st.just("p1") | JSON,
)
def test_any_resource_gives_searchable_identifiers_or_a_failure(
    listed: Any, kind: Any, name: Any
) -> None:
    """SIA-17: no other failure, no identifier that the resource does not have, none that matches
    more than itself.
    """
    client: Any = None
    patients = EhrMapping(client, ISSUERS, invalidation=Invalidation())
    try:
        found = patients.pick({"resourceType": kind, "id": name, "identifier": listed}, "p1")
    except FetchFailed as failure:
        reason: str | None = failure.reason
        found = frozenset()
    except PatientMerged:
        reason, found = "merged", frozenset()
    else:
        reason = None
    other = kind == "Patient" and name != "p1" and isinstance(name, str) and is_fhir_id(name)
    assert (reason == "merged") == other
    if other:
        return
    assert (reason == "wrong_resource") == (kind != "Patient" or name != "p1")
    assert (reason == "wrong_shape") == (
        reason != "wrong_resource" and not isinstance(listed, list)
    )
    for identifier in found:
        assert identifier.is_searchable()
        assert any(
            isinstance(e, dict)
            and isinstance(e.get("value"), str)
            and e["value"].strip(" ") == identifier.patient_id
            and ISSUERS.get(str(e.get("system")), "?") == identifier.issuer
            and e.get("use") != "old"
            for e in listed
        )
