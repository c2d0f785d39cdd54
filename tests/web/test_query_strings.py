"""Query strings of QIDO-RS and FHIR searches: which are served, which are refused, and what of them
is ignored.

The two tables are the specification. What says whose something is must be understood, or the
request is refused; the rest that is not supported is ignored (PS3.18 8.3, R4 search.html#errors),
and the answer says what it was.
"""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from aiohttp import ClientResponse
from yarl import URL

from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import nothing
from tests.fakes.site import HEADERS, sidecar_between

Row = tuple[str, int, tuple[str, ...]]
"""The query string, the status, and the names of what was ignored."""

QIDO: dict[str, Row] = {
    "none": ("", 200, ()),
    "matching keys": ("StudyDate=20240101-&00080060=CT&PatientName=Doe*", 200, ()),
    "jQuery's cache-breaker": ("_=1700000000", 200, ("_",)),
    "an order": ("orderby=StudyDate", 200, ("orderby",)),
    "an empty order": ("orderby=", 200, ("orderby",)),
    "dcm4chee's own": (
        "includedefaults=false&allOfModalitiesInStudy=CT",
        200,
        ("includedefaults", "allOfModalitiesInStudy"),
    ),
    "FHIR's": ("_count=5", 200, ("_count",)),
    "the character set that we write": ("charset=utf-8", 200, ()),
    "another character set": ("charset=latin1", 200, ("charset",)),
    "an & at the end": ("limit=1&", 200, ()),
    "& in other places": ("&limit=1&&offset=0", 200, ()),
    "nothing but &": ("&", 200, ()),
    "no fields": ("includefield=", 200, ()),
    "a comma behind fields": ("includefield=StudyDescription,", 200, ()),
    "an unknown field": ("includefield=a,00081030", 200, ("includefield",)),
    "fields that are no names": ("includefield=*,00081030%26limit%3D1", 200, ("includefield",)),
    "a private field": ("includefield=00091001", 200, ("includefield",)),
    "a private attribute": ("00091001=x", 200, ("00091001",)),
    "an attribute that the standard does not have": ("0008FFFE=x", 200, ("0008FFFE",)),
    "a private attribute in a sequence": ("00400275.00091001=x", 200, ("00400275.00091001",)),
    "accept with a raw +": ("accept=application/dicom+json", 200, ()),
    "accept": ("accept=application/dicom%2Bjson", 200, ()),
    "another accept": ("accept=application/dicom+xml", 406, ()),
    "an empty limit": ("limit=&offset=", 200, ("limit", "offset")),
    "fuzzy matching": ("fuzzymatching=true", 200, ("fuzzymatching",)),
    "no fuzzy matching": ("fuzzymatching=false", 200, ()),
    "fuzzy matching, perhaps": ("fuzzymatching=", 200, ("fuzzymatching",)),
    "an empty key": ("StudyDate=&AccessionNumber=", 200, ()),
    # The patient is the token's, whatever is said.
    "another patient": (
        "PatientID=p2&00100020=p2&IssuerOfPatientID=x&OtherPatientIDs=p2",
        200,
        ("PatientID", "00100020", "IssuerOfPatientID", "OtherPatientIDs"),
    ),
    "the patient": (f"PatientID={PATIENT}&00100020=%20{PATIENT}%20", 200, ()),
    "no patient": ("PatientID=", 200, ()),
    "any patient": ("PatientID=*&IssuerOfPatientID=", 200, ()),
    # Refused: what might say whose it is in another spelling, and values that a key or a page
    # cannot have.
    "the patient in small letters": ("patientid=p2", 400, ()),
    "the patient by FHIR": ("patient=p2", 400, ()),
    "the subject": ("subject=p2", 400, ()),
    "an issuer": ("issuerOfPatientID=x", 400, ()),
    "a study by WADO-URI": (f"studyUID={STUDY}", 400, ()),
    "an id": ("_id=1.2", 400, ()),
    "a patient's number": ("pid=p2", 400, ()),
    "a word like a keyword": ("PatientId=p2", 400, ()),
    "an unknown keyword": ("Colour=blue", 400, ()),
    "a tag with a prefix": ("x00100020=p2", 400, ()),
    "a tag of nine digits": ("001000200=p2", 400, ()),
    "a name with a space": ("%20PatientID=p2", 400, ()),
    "brackets": ("PatientID[]=p2", 400, ()),
    "no name": ("=p2", 400, ()),
    "a private attribute before what is no name": ("00091001.%22x%0d=1", 400, ()),
    "no value": ("limit", 400, ()),
    "an attribute twice": ("Modality=CT&Modality=MR", 400, ()),
    "a limit twice": ("limit=1&limit=2", 400, ()),
    "a limit that is no number": ("limit=x", 400, ()),
    "fuzzy matching that is neither": ("fuzzymatching=yes", 400, ()),
    "control characters where they are ignored": ("_=%0d%0aX:1", 400, ()),
    "a broken escape": ("_=%zz", 400, ()),
}

FHIR: dict[str, Row] = {
    "none": ("", 200, ()),
    "jQuery's cache-breaker": ("_=1700000000", 200, ("_",)),
    "unknown": ("colour=blue&_x=x", 200, ("colour", "_x")),
    "a name that is not shown": ("a%00b=x", 200, ("…",)),
    "an & at the end": ("modality=CT&", 200, ()),
    "no count": ("_count=", 200, ("_count",)),
    "no modality": ("modality=", 200, ("modality",)),
    "commas instead of a modality": ("modality=,", 200, ("modality",)),
    "not no modality": ("modality:not=", 200, ("modality:not",)),
    "missing or not": ("modality:missing=", 200, ("modality:missing",)),
    "no dates": ("started=&_lastUpdated=", 200, ("started", "_lastUpdated")),
    "no status, no body site, no class": (
        "status=&bodysite=&dicom-class=",
        200,
        ("status", "bodysite", "dicom-class"),
    ),
    "no result parameters": (
        "_sort=&_summary=&_elements=&_total=&_pretty=&_include=",
        200,
        ("_sort", "_summary", "_elements", "_total", "_pretty", "_include"),
    ),
    "no format": ("_format=", 200, ("_format",)),
    "a total alone has no room for it": ("_count=0&colour=blue", 200, ()),
    "the patient": (f"patient={PATIENT}", 200, ()),
    # What says whose or which study it is.
    "no patient": ("patient=", 400, ()),
    "no subject": ("subject=", 400, ()),
    "no patient's identifier": ("patient.identifier=", 400, ()),
    "no id": ("_id=", 400, ()),
    "no identifier": ("identifier=", 400, ()),
    "no series": ("series=", 400, ()),
    "no instance": ("instance=", 400, ()),
    "no endpoint": ("endpoint=", 400, ()),
    "no place": ("_after=", 400, ()),
    # Values that are there and mean nothing, and questions that we do not have.
    "a count that is none": ("_count=x", 400, ()),
    "an unknown modifier, no value": ("modality:in=", 400, ()),
    "a chain, no value": ("patient.name=", 400, ()),
}


def cases(table: dict[str, Row]) -> list[Any]:
    return [pytest.param(*row, id=name) for name, row in table.items()]


def warned(response: ClientResponse) -> tuple[str, ...]:
    """The names in the Warning headers (RFC 9111 5.5 was RFC 7234: code, agent, text)."""
    found: list[str] = []
    for line in response.headers.getall("Warning", []):
        text = re.fullmatch(r'299 smart-imaging-sidecar "([ -!#-\[\]-~]*)"', line)
        assert text is not None, line
        if (
            text[1] == "The fuzzymatching parameter is not supported. "
            "Only literal matching has been performed."
        ):
            found.append("fuzzymatching")
        else:
            found += text[1].removeprefix("Ignored query parameters: ").split(", ")
    return tuple(found)


def check_asked(pacs: ScriptedPacs) -> None:
    """The archive is asked in our own words alone."""
    for target in pacs.requests:
        pairs = parse_qsl(urlsplit(target).query, keep_blank_values=True)
        names = {name for name, _ in pairs}
        assert all(
            re.fullmatch(r"[A-Z][A-Za-z]+(\.[A-Z][A-Za-z]+)*|includefield|limit|offset", one)
            for one in names
        ), target
        assert dict(pairs).get("PatientID", PATIENT) == PATIENT
        assert not names & {
            "00100020",
            "00100021",
            "00101000",
            "IssuerOfPatientID",
            "OtherPatientIDs",
        }
        assert re.fullmatch(
            r"([A-Z][A-Za-z]+|all|)(,[A-Z][A-Za-z]+)*", dict(pairs)["includefield"]
        ), target


@pytest.mark.parametrize(("query", "status", "ignored"), cases(QIDO))
async def test_qido(query: str, status: int, ignored: tuple[str, ...]) -> None:
    pacs = ScriptedPacs(nothing)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        address = f"{url}/wado-rs/studies?{query}"
        for prefer in ({}, {"Prefer": "return=minimal, handling=lenient"}):
            async with client.get(URL(address, encoded=True), headers=prefer) as response:
                assert response.status == status, await response.text()
                assert warned(response) == ignored
        check_asked(pacs)
        strict = {"Prefer": 'respond-async, Handling="strict"'}
        async with client.get(URL(address, encoded=True), headers=strict) as response:
            assert response.status == (400 if ignored else status)


def outcome(bundle: dict[str, Any]) -> tuple[str, ...]:
    entries = [one for one in bundle.get("entry", ()) if one["search"]["mode"] == "outcome"]
    if not entries:
        return ()
    (entry,) = entries
    assert entry["fullUrl"].startswith("urn:uuid:")
    (issue,) = entry["resource"]["issue"]
    assert (issue["severity"], issue["code"]) == ("warning", "not-supported")
    return tuple(issue["diagnostics"].removeprefix("Ignored search parameters: ").split(", "))


@pytest.mark.parametrize(("query", "status", "ignored"), cases(FHIR))
async def test_fhir(query: str, status: int, ignored: tuple[str, ...]) -> None:
    pacs = ScriptedPacs(nothing)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        address = URL(f"{url}/fhir/ImagingStudy?{query}", encoded=True)
        async with client.get(address) as response:
            bundle = await response.json(content_type=None)
            assert response.status == status, bundle
        if status == 200:
            assert outcome(bundle) == ignored
            (own,) = [one["url"] for one in bundle["link"] if one["relation"] == "self"]
            used = {name for name, _ in parse_qsl(urlsplit(own).query, keep_blank_values=True)}
            assert not used & set(ignored)
        check_asked(pacs)
        async with client.get(address, headers={"Prefer": "handling=strict"}) as response:
            assert response.status == (400 if ignored or "colour" in query else status)


async def test_what_is_ignored_takes_nothing_from_the_answer() -> None:
    """The same studies and total as without it, and the same tag for a client that has them
    already.
    """
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(nothing)) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        bundles = []
        for query in ("", "?modality=&_=1"):
            async with client.get(f"{url}/fhir/ImagingStudy{query}") as response:
                tag = response.headers["ETag"]
                bundles.append(await response.json(content_type=None))
        async with client.get(
            f"{url}/fhir/ImagingStudy?modality=&_=1", headers={"If-None-Match": tag}
        ) as response:
            assert response.status == 304
        plain, ignoring = bundles
        assert plain["total"] == ignoring["total"] == 1
        matches = [[e for e in one["entry"] if e["search"]["mode"] == "match"] for one in bundles]
        assert matches[0] == matches[1]
