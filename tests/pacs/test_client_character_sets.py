"""SpecificCharacterSet is asked for in every query, and what is answered without it (SIA-42)."""

import math
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import Problem
from sidecar.common.invalidation import Invalidation
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import QueryRefused, UnknownTexts
from sidecar.pacs.client import PacsClient
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.ownership import Ownership
from tests.common.peer import Peer, Reply
from tests.permits import ASKED

QUERIES = (
    Query("studies"),
    Query("series"),
    Query("instances"),
    Query("series", "1.2"),
    Query("instances", "1.2"),
    Query("instances", "1.2", "1.3"),
)
FIELDS: dict[str, tuple[list[tuple[str, str]], dict[str, str]]] = {
    "none": ([], {"": "SpecificCharacterSet"}),
    "some": (
        [("includefield", "00100020,00100021")],
        {"": "PatientID,IssuerOfPatientID,SpecificCharacterSet"},
    ),
    "itself": ([("includefield", "00080005,00100020")], {"": "PatientID,SpecificCharacterSet"}),
    "all": ([("includefield", "all")], {"": "all", "orthanc": "all,SpecificCharacterSet"}),
}


def client(session: aiohttp.ClientSession, peer: Peer, dialect: str) -> PacsClient:
    return PacsClient(session, peer.url + "/rs", DIALECTS[dialect], timeout_seconds=60)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fields", FIELDS)
async def test_it_is_asked_for(
    peer: Peer, session: aiohttp.ClientSession, dialect: str, fields: str
) -> None:
    """At every level, in the one includefield that there is."""
    peer.say(Reply([]))
    parameters, expected = FIELDS[fields]
    pacs = client(session, peer, dialect)
    for query in QUERIES:
        await pacs.search(query, [("PatientID", "p1"), *parameters], permit=ASKED)
    await pacs.ping()
    asked = [parse_qs(urlsplit(one.target).query)["includefield"] for one in peer.asked]
    wanted = expected.get(dialect, expected[""])
    assert asked == [[wanted]] * len(QUERIES) + [["SpecificCharacterSet"]]


def refusing(*rows: dict[str, Any], always: bool = False) -> Reply:
    """Orthanc 1.10 with an image in a character set that it cannot write: 400 when that is asked
    for.
    """

    async def write(request: web.Request) -> web.StreamResponse:
        if always or "SpecificCharacterSet" in request.query.get("includefield", ""):
            return web.Response(status=400)
        return web.json_response(list(rows), content_type="application/dicom+json")

    return Reply(write=write)


def said(character_set: str | None, patient: str = "P1") -> dict[str, Any]:
    row: dict[str, Any] = {
        "00100020": {"vr": "LO", "Value": [patient]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
    }
    return (
        row if character_set is None else row | {"00080005": {"vr": "CS", "Value": [character_set]}}
    )


@pytest.mark.parametrize("rest", ["ISO_IR 100", "ISO_IR 6", None])
async def test_orthanc_is_believed_in_utf8_alone(
    peer: Peer, session: aiohttp.ClientSession, rest: str | None
) -> None:
    """A PatientID that is ASCII in another set may have lost a character."""
    pacs = client(session, peer, "orthanc")
    peer.say(refusing(said("ISO_IR 192")))
    assert len(await pacs.search(Query("studies"), [], permit=ASKED)) == 1
    peer.say(refusing(said("ISO_IR 192"), said(rest)))
    with pytest.raises(UnknownTexts) as refused:
        await pacs.search(Query("studies"), [], permit=ASKED)
    assert (refused.value.status, refused.value.reason) == (502, "query_character_set")


async def test_another_archive_that_does_not_know_the_attribute(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(refusing(said(None)))
    assert (
        len(await client(session, peer, "generic").search(Query("studies"), [], permit=ASKED)) == 1
    )


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_query_that_is_wrong_stays_so(
    peer: Peer, session: aiohttp.ClientSession, dialect: str
) -> None:
    peer.say(refusing(always=True))
    with pytest.raises(QueryRefused):
        await client(session, peer, dialect).search(Query("studies"), [], permit=ASKED)
    assert len(peer.asked) == 2


@pytest.mark.parametrize(
    ("dialect", "read"), [("orthanc", "\ufffd"), ("generic", "Ä1"), ("dcm4chee", "Ä1")]
)
async def test_a_row_that_names_no_character_set(
    peer: Peer, session: aiohttp.ClientSession, dialect: str, read: str
) -> None:
    """JSON is UTF-8; only Orthanc, which always names one, would have guessed. ASCII is ASCII."""
    peer.say(Reply([said(None, "Ä1"), said(None, "P1")]), Reply([]))
    rows = await client(session, peer, dialect).search(Query("studies"), [], permit=ASKED)
    assert [row["00100020"]["Value"] for row in rows] == [[read], ["P1"]]


async def test_the_character_set_of_the_archive(peer: Peer, session: aiohttp.ClientSession) -> None:
    """What a row names that was not asked for it."""
    peer.say(Reply([said("ISO_IR 100")]))
    assert await client(session, peer, "orthanc").character_set() == "ISO_IR 100"
    assert "SpecificCharacterSet" not in peer.asked[0].target
    peer.say(Reply([]))
    assert await client(session, peer, "orthanc").character_set() is None
    peer.say(Reply(status=500))
    with pytest.raises(Problem):
        await client(session, peer, "orthanc").character_set()


@pytest.mark.parametrize(("dialect", "cost"), [("orthanc", 2), ("generic", 1), ("dcm4chee", 1)])
async def test_what_is_not_the_patients_costs_as_much_as_what_is_refused(
    peer: Peer, session: aiohttp.ClientSession, dialect: str, cost: int
) -> None:
    """A 404 tells by no number of queries that Orthanc has a study in ISO 2022 (SIA-45); one's own
    costs one.
    """
    known_as = frozenset({PatientIdentifier("P1")})
    refused = {
        "orthanc": [refusing(said("ISO_IR 192", "other")), refusing(said("ISO_IR 100", "P1"))]
    }
    replies = {
        "absent": Reply([]),
        "foreign": Reply([said("ISO_IR 100", "other")]),
        "shared": Reply([said("ISO_IR 100", "other"), said("ISO_IR 100")]),
        **{f"refused {number}": reply for number, reply in enumerate(refused.get(dialect, ()))},
    }
    for name, reply in replies.items():
        peer.say(reply)
        for fresh in (False, True):
            peer.asked.clear()
            await Ownership(client(session, peer, dialect), invalidation=Invalidation()).owners(
                "1.2", known_as, max_age_seconds=0 if fresh else math.inf
            )
            assert len(peer.asked) == cost, name
    peer.say(Reply([said("ISO_IR 100")]))
    peer.asked.clear()
    assert (
        await Ownership(client(session, peer, dialect), invalidation=Invalidation()).owners(
            "1.2", known_as
        )
        == known_as
    )
    assert len(peer.asked) == 1
