"""Whom the PACS knows by the owner of a study: a search at the EHR, which permits nothing."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from sidecar.access.facts import KnownAs, PatientIdentifier
from sidecar.common.errors import BadGateway, Problem, Unavailable
from sidecar.patients.direct import DirectMapping
from tests.common.peer import Peer, Reply, all_that_is_said
from tests.patients.ehr_patients import MRN, NAME, OTHER_MRN, UNKNOWN, VALUE, entry, mapping, person

OWNER = PatientIdentifier("4711", "HOSPITAL")


def searchset(*resources: Any, **members: Any) -> Reply:
    """A page of what was found."""
    entries = [{"resource": resource} for resource in resources]
    return Reply({"resourceType": "Bundle", "type": "searchset", "entry": entries} | members)


P1, P2 = person(entry()), person(entry(), id="p2")
OUTCOME = {"resourceType": "OperationOutcome", "id": "x"}
NEXT = [{"relation": "self", "url": "x"}, {"relation": "next", "url": "y"}]
FOUND: dict[str, tuple[list[PatientIdentifier], Reply, set[str]]] = {
    "one": ([OWNER], searchset(P1), {"p1"}),
    "one, and what was odd": ([OWNER], searchset(OUTCOME, P1), {"p1"}),
    "one, and one that it replaces": (
        [OWNER],
        searchset(P1, P2 | {"link": [{"type": "replaced-by"}]}),
        {"p1"},
    ),
    "one that is not in use": ([OWNER], searchset(P1 | {"active": False}), set()),
    "two": ([OWNER], searchset(P1, P2), {"p1", "p2"}),
    "none": ([OWNER], searchset(), set()),
    "no entry at all": ([OWNER], Reply({"resourceType": "Bundle"}), set()),
    "one of another issuer": ([PatientIdentifier("4711", "X")], searchset(P1), set()),
    "one of no issuer": ([PatientIdentifier("4711")], searchset(P1), set()),
    "one whose number it was": ([OWNER], searchset(person(entry(use="old"))), set()),
    "one by another number": ([OWNER], searchset(person(entry("4712"))), set()),
    "one by another system": ([OWNER], searchset(person(entry(system=UNKNOWN))), set()),
    "one of two owners": ([OWNER, PatientIdentifier("5")], searchset(P1), set()),
    "one, known as both": (
        [OWNER, PatientIdentifier("5")],
        searchset(person(entry(), entry("5", OTHER_MRN))),
        {"p1"},
    ),
    "a page of more": ([OWNER], searchset(P1, link=NEXT), set()),
    "a link that is none": ([OWNER], searchset(P1, link=[1]), set()),
    "one, and one whose id is none": ([OWNER], searchset(P1, P2 | {"id": "../p1"}), set()),
    "one, and one without an id": ([OWNER], searchset(P1, P2 | {"id": None}), set()),
    "one, and one that cannot be read": ([OWNER], searchset(P1, P2 | {"active": "yes"}), set()),
    "nobody's": ([], searchset(P1), set()),
    "an owner without a number": ([PatientIdentifier("")], searchset(P1), set()),
}


@pytest.mark.parametrize("case", FOUND)
async def test_who_is_found(peer: Peer, session: aiohttp.ClientSession, case: str) -> None:
    """Of what the EHR finds each Patient is read: it must be in use and known by the owner."""
    owners, reply, wanted = FOUND[case]
    peer.say(reply)
    assert await mapping(peer, session).known_as(frozenset(owners)) == wanted


@pytest.mark.parametrize(
    ("owners", "values"),
    [
        ([OWNER], [f"{MRN}|4711", f"{OTHER_MRN}|4711"]),
        ([OWNER, PatientIdentifier("5")], [f"{MRN}|4711", f"{OTHER_MRN}|4711"]),
        ([OWNER, PatientIdentifier("")], [f"{MRN}|4711", f"{OTHER_MRN}|4711"]),
        ([PatientIdentifier("a,b|c$d")], [f"{MRN}|a\\,b\\|c\\$d", f"{OTHER_MRN}|a\\,b\\|c\\$d"]),
    ],
)
async def test_what_is_asked(
    peer: Peer, session: aiohttp.ClientSession, owners: list[PatientIdentifier], values: list[str]
) -> None:
    """R4 search.html#escaping: a number is a number, whatever is in it. However many owners there
    are, one number is enough, and the URL is short.
    """
    peer.say(searchset())
    await mapping(peer, session).known_as(frozenset(owners))
    (asked,) = peer.asked
    assert urlsplit(asked.target).path == "/fhir/Patient"
    query = parse_qs(urlsplit(asked.target).query)
    assert query == {"identifier": [",".join(values)], "_count": ["20"]}


@pytest.mark.parametrize("owners", [frozenset(), frozenset({PatientIdentifier("")})])
async def test_for_nobody_a_number_that_nobody_has_is_searched(
    peer: Peer, session: aiohttp.ClientSession, owners: KnownAs
) -> None:
    """SIA-45: what is not there takes the way of what is another's; each time another number."""
    peer.say(searchset())
    patients = mapping(peer, session)
    for _ in range(2):
        assert await patients.known_as(owners) == frozenset()
    first, second = [parse_qs(urlsplit(one.target).query)["identifier"][0] for one in peer.asked]
    assert first != second
    for value in (first, second):
        systems = [one.rpartition("|")[0] for one in value.split(",")]
        assert systems == [MRN, OTHER_MRN]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({}, 403), BadGateway),
        (Reply({}, 401), BadGateway),
        (Reply({}, 404), Unavailable),
        (Reply({}, 500), Unavailable),
        (Reply("<html>"), Unavailable),
        (Reply({"resourceType": "Patient"}), BadGateway),
        (Reply({"resourceType": "Bundle", "entry": {}}), BadGateway),
        (searchset(P1, link=None), BadGateway),
        (searchset(P1, link={}), BadGateway),
    ],
)
async def test_who_cannot_be_asked(
    peer: Peer,
    session: aiohttp.ClientSession,
    reply: Reply,
    kind: type[Problem],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SIA-16: an error, which names nobody."""
    peer.say(reply)
    with pytest.raises(kind) as failed:
        await mapping(peer, session).known_as(frozenset({PatientIdentifier(VALUE, "HOSPITAL")}))
    said = all_that_is_said(caplog) + failed.value.diagnostics
    assert VALUE not in said
    assert NAME not in said


@pytest.mark.parametrize(
    ("owners", "issuer", "wanted"),
    [
        ([("p1", None)], None, {"p1"}),
        ([("p1", "X")], None, {"p1"}),
        ([("p1", "HOSPITAL")], "HOSPITAL", {"p1"}),
        ([("p1", "X")], "HOSPITAL", set()),
        ([("p1", None)], "HOSPITAL", set()),
        ([("p1", "HOSPITAL"), ("p1", "X")], "HOSPITAL", set()),
        ([], None, set()),
        ([("p1", None), ("p2", None)], None, set()),
        ([("p1", None), ("no FHIR id", None)], None, set()),
        ([("no FHIR id", None)], None, set()),
        ([("", None)], None, set()),
    ],
)
async def test_directly_the_number_is_the_id(
    owners: list[tuple[str, str | None]], issuer: str | None, wanted: set[str]
) -> None:
    """Of another issuer it is somebody else's, whom the audit trail must not call so."""
    known = frozenset(PatientIdentifier(*owner) for owner in owners)
    assert await DirectMapping(issuer).known_as(known) == wanted
