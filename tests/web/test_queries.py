"""Queries for a patient: with their own connections, and without a limit where the archive finds
others as well.
"""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest

from sidecar.authorization.limits import QUERIES_AT_ONCE
from sidecar.pacs.dialects import DIALECTS
from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import PATH, nothing
from tests.fakes.site import HEADERS, sidecar_between

PAGE = f"{DIALECTS['orthanc'].page_size}"
"""Rows that are asked for at once."""


@pytest.mark.parametrize(("issuer", "limit"), [("HOSPITAL", "1"), ("The Hospital", PAGE)])
async def test_a_limit_is_passed_on_only_when_all_rows_are_the_patients(
    issuer: str, limit: str
) -> None:
    """Orthanc 1.10 reads no encoded space: a wildcard stands for it, and the first row may be
    somebody else's.
    """
    pacs = ScriptedPacs(nothing)
    changes = {"pacs": {"dialect": "orthanc"}, "patients": {"mapping": "direct", "issuer": issuer}}
    async with (
        sidecar_between(ScriptedEhr(), pacs, **changes) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        root = url + PATH.removesuffix(f"/studies/{STUDY}")
        async with client.get(f"{root}/studies?limit=1", headers=HEADERS) as response:
            assert response.status == 200
    asked = [
        target
        for target in pacs.requests
        if "PatientID" in target
        and "includefield=PatientID,IssuerOfPatientID,StudyInstanceUID" in target
    ]
    assert f"limit={limit}" in asked[0].split("&")
    # Its row names no issuer and is left out: that was not the end of the patient's own.
    assert f"limit={PAGE}" in asked[-1].split("&")


class IgnoresKeys(ScriptedPacs):
    """Answers all studies of the patient, whatever a query asks; it pages."""

    descriptions = ("a", "b", "a,b", "a,b", "c")

    def _rows(self, target: str, writer: asyncio.StreamWriter) -> None:
        rows = [
            {
                "00100020": {"vr": "LO", "Value": [self.patient_id]},
                "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
                "00081030": {"vr": "LO", "Value": [description]},
            }
            for number, description in enumerate(self.descriptions)
        ]
        query = dict(parse_qsl(target.partition("?")[2]))
        begin = int(query.get("offset", "0"))
        body = json.dumps(rows[begin : begin + int(query["limit"])]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("StudyDescription=a%2Cb", [2, 3]),
        ("StudyDescription=a%2Cb&limit=1", [2]),
        ("StudyDescription=a%2Cb&limit=1&offset=1", [3]),
        ("StudyDescription=a%2Cb&limit=1&offset=2", []),
        ("StudyDescription=*", [0, 1, 2, 3, 4]),
        ("StudyDescription=x", []),
        ("StudyInstanceUID=1.2.1,1.2.4", [1, 4]),
        ("AccessionNumber=x", [0, 1, 2, 3, 4]),
    ],
)
async def test_rows_that_a_query_did_not_ask_for_are_left_out(query: str, found: list[int]) -> None:
    """An archive may ignore keys. What it does not return (AccessionNumber here) cannot be
    compared.
    """
    pacs = IgnoresKeys(nothing)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(f"{url}/wado-rs/studies?{query}", headers=HEADERS) as response,
    ):
        assert response.status == 200
        rows = await response.json(content_type=None)
    assert [row["0020000D"]["Value"] for row in rows] == [[f"1.2.{number}"] for number in found]
    if "StudyDescription=a" in query:
        assert any(
            "includefield" in target and ",StudyDescription" in target for target in pacs.requests
        )


async def test_slow_retrievals_take_no_connection_from_the_queries() -> None:
    """Whoever holds all retrievals' connections cannot keep others from searching and from being
    checked.
    """
    begun, end = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await end.wait()

    changes = {"limits": {"pacs_connections": 1, "defer_after_seconds": None}}
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(hang), **changes) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        slow = asyncio.create_task(client.get(url + PATH, headers=HEADERS))
        await begun.wait()
        root = url + PATH.removesuffix(f"/studies/{STUDY}")
        async with asyncio.timeout(60), client.get(f"{root}/studies", headers=HEADERS) as response:
            assert response.status == 200
            assert len(await response.json(content_type=None)) == 1
        end.set()
        (await slow).close()


async def test_questions_about_absent_studies_wait_for_each_other() -> None:
    """So many at the PACS at once for one patient, however many are asked; and every one is
    answered.
    """
    pacs = ScriptedPacs(nothing)
    running, most = 0, 0

    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        observe = sidecar.pacs._page

        async def page(*arguments: Any, **named: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return await observe(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sidecar.pacs, "_page", page)

            async def ask(number: int) -> int:
                async with client.get(
                    f"{url}/wado-rs/studies/1.2.9.{number}", headers=HEADERS
                ) as response:
                    return response.status

            assert set(await asyncio.gather(*(ask(number) for number in range(100)))) == {404}
    assert 1 < most <= QUERIES_AT_ONCE[-1]
