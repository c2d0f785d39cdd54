"""What a request rests on is worked out once: its path, Accept header, identifiers, visibility.

Where security needs a second look, that has a name: ``Authorizer.decide_again``, the list that is
asked for anew before a study is refused as hidden, and the decision once instances were opened.
"""

import json
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import sidecar
from sidecar.access.facts import Token
from sidecar.authorization import visible_studies_lookup
from sidecar.authorization.authorizer import AuthorizedRequest
from sidecar.authorization.limits import QueryLimits
from sidecar.dicomweb import media_types
from sidecar.pacs.issuer_check import Issuers
from sidecar.patients.direct import DirectMapping
from sidecar.web import dicomweb_request, middleware
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between

ROOT = f"/fhir/Patient/{PATIENT}/$wado-rs"
REQUESTS = {
    "study": f"{ROOT}/studies/{STUDY}",
    "metadata": f"{ROOT}/studies/{STUDY}/series/{SERIES}/metadata",
    "rendered": f"{ROOT}/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/rendered",
    "QIDO-RS studies": f"{ROOT}/studies?limit=5",
    "QIDO-RS series": f"{ROOT}/studies/{STUDY}/series",
    "ImagingStudy search": f"/fhir/ImagingStudy?patient={PATIENT}",
    "ImagingStudy read": f"/fhir/ImagingStudy/{STUDY}",
}
ACCEPT = {"study": "multipart/related; type=*/*", "rendered": "image/jpeg"}
RULES = {"name": "no reports", "effect": "exclude", "series": {"Modality": ["SR"]}}
LIMITED = {"access": {"rules": [{**RULES, "unknown": "ignored"}]}}


class Archive(ScriptedPacs):
    """Has an instance, its metadata, and a picture of it."""

    def __init__(self) -> None:
        super().__init__(self._answer, instances=1)

    async def _answer(self, reader: Any, writer: Any) -> None:
        target = self.requests[-1]
        uids = {"0020000D": STUDY, "0020000E": SERIES, "00080018": INSTANCE}
        row: dict[str, Any] = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}
        row["00100020"] = {"vr": "LO", "Value": [PATIENT]}
        instance = encoded(
            dataset(
                PatientID=PATIENT,
                StudyInstanceUID=STUDY,
                SeriesInstanceUID=SERIES,
                SOPInstanceUID=INSTANCE,
            )
        )
        content_type = 'multipart/related; type="application/dicom"; boundary=abc'
        body = b"--abc\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--abc--\r\n" % instance
        if target.endswith("/metadata"):
            content_type, body = "application/dicom+json", json.dumps([row]).encode()
        elif target.endswith("/rendered"):
            content_type, body = "image/jpeg", b"\xff\xd8\xff\xd9"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each fact was worked out."""
    found: Counter[str] = Counter()

    def count(owner: Any, name: str, what: str) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **more: Any) -> Any:
            found[what] += 1
            return original(*args, **more)

        monkeypatch.setattr(owner, name, counted)

    count(middleware, "parse_target", "target")
    count(dicomweb_request, "parse", "path")
    count(media_types, "parse_accept", "accept")
    count(DirectMapping, "identifiers", "identifiers")
    count(Issuers, "check", "issuers")
    count(visible_studies_lookup, "visibility", "visibility")
    return found


@pytest.mark.parametrize("limited", [False, True], ids=["all", "limited"])
@pytest.mark.parametrize("what", REQUESTS)
async def test_facts_are_worked_out_once(what: str, limited: bool, calls: Counter[str]) -> None:
    headers = {**HEADERS, "Accept": ACCEPT.get(what, "application/json")}
    changes: dict[str, Any] = LIMITED if limited else {}
    async with (
        sidecar_between(ScriptedEhr(), Archive(), **changes) as (url, _),
        aiohttp.ClientSession(headers=headers) as client,
    ):
        for _ in range(2):  # The first one fills what is remembered.
            calls.clear()
            async with client.get(url + REQUESTS[what]) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
    expected = {"target": 1, "accept": 1, "identifiers": 1, "issuers": 1}
    if "ImagingStudy" not in what:
        expected["path"] = 1
    if what in ("study", "metadata", "rendered"):
        del expected["accept"]  # What a header means for a retrieval is remembered.
    if limited:
        expected["visibility"] = 1
    assert calls == expected


async def test_a_place_for_a_question_is_taken_only_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Facts that are cached wait for nobody."""
    taken: list[Token] = []
    place = QueryLimits.place

    def noted(limits: QueryLimits, token: Token) -> AbstractAsyncContextManager[None]:
        taken.append(token)
        return place(limits, token)

    monkeypatch.setattr(QueryLimits, "place", noted)
    async with (
        sidecar_between(ScriptedEhr(), Archive()) as (url, _),
        aiohttp.ClientSession(headers={**HEADERS, "Accept": ACCEPT["rendered"]}) as client,
    ):
        for is_first in (True, False):
            taken.clear()
            async with client.get(url + REQUESTS["rendered"]) as answer:
                assert answer.status == 200
            assert bool(taken) == is_first


async def test_a_malformed_cursor_costs_the_archive_nothing() -> None:
    archive = Archive()
    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(f"{url}/fhir/ImagingStudy?patient={PATIENT}&_after=AAAA") as answer,
    ):
        assert answer.status == 400
    assert archive.requests == []


@pytest.mark.parametrize("attribute", ["token", "permit", "search", "asked", "visible", "record"])
def test_a_request_is_changed_by_nobody(attribute: str) -> None:
    make: Any = AuthorizedRequest
    request = make(*[None] * 6)
    with pytest.raises(AttributeError):
        setattr(request, attribute, None)


async def test_a_token_in_the_query_does_not_count() -> None:
    """RFC 6750 2.3: it would stand in logs and histories."""
    token = HEADERS["Authorization"].partition(" ")[2]
    async with (
        sidecar_between(ScriptedEhr(), Archive()) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(f"{url}/fhir/ImagingStudy?access_token={token}") as answer,
    ):
        assert answer.status == 401


def test_spans_alone_are_found_by_context() -> None:
    """Whatever else a function needs is an argument."""
    root = Path(sidecar.__file__).parent
    users = [file for file in root.rglob("*.py") if "ContextVar(" in file.read_text()]
    assert [file.relative_to(root).as_posix() for file in users] == ["common/spans.py"]
    assert users[0].read_text().count("ContextVar(") == 1
