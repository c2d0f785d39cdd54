"""Archives that lack a resource of DICOMweb: what does without it is served, and what does not is
refused by name.
"""

import json
from dataclasses import replace
from typing import cast

import aiohttp
import pytest

from sidecar.check.resources import resources
from sidecar.conformance.finding import State
from sidecar.settings.document import Settings
from tests.fakes.archive import STUDY
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.odd_archive import FOREIGN, PATHS, OddArchive, Sent, row
from tests.fakes.site import sidecar_between
from tests.pacs.odd_answers import HEADERS, OK, Odd, asking

SERIES = f"/studies/{STUDY}/series"
ONE_SERIES = f"{SERIES}/{STUDY}.1"
ASKED = {**dict.fromkeys(PATHS, OK), SERIES: OK, ONE_SERIES: OK}
MISSING: dict[str, dict[str, int]] = {
    "series": {SERIES: 501, "instances": 501, ONE_SERIES: 501},
    "instances": {"instances": 501, "instance": 501, "frames": 501},
    "metadata": {"metadata": 501},
}


def without(kind: str, status: int) -> Odd:
    """An archive that has no such resource."""
    return lambda answer: (
        Sent(kind, b"No such thing", "text/plain", status) if answer.kind == kind else answer
    )


@pytest.mark.parametrize("status", [404, 405, 501, 400])
@pytest.mark.parametrize("kind", MISSING)
async def test_what_an_archive_lacks(kind: str, status: int) -> None:
    async with asking(OddArchive(without(kind, status))) as (ask, _):
        for asked, usual in ASKED.items():
            found, _, body = await ask(asked)
            wanted = MISSING[kind].get(asked, usual)
            # A 400 may be for the query.
            assert found == (
                502 if wanted == 501 and status == 400 and kind != "metadata" else wanted
            ), asked
            if found == 501:
                issue = json.loads(body)["issue"][0]
                assert issue["code"] == "not-supported"
                assert kind in issue["diagnostics"]


@pytest.mark.parametrize("kind", MISSING)
async def test_nothing_is_told_of_what_is_not_the_patients(kind: str) -> None:
    """SIA-45: a foreign study is as one that is not there, whatever the archive lacks."""
    answers = []
    for rows in ([row()], [row(), row(patient="somebody else", study=FOREIGN)]):
        archive = OddArchive(without(kind, 404), rows=rows)
        async with asking(archive) as (ask, _):
            for path in (
                "",
                "/metadata",
                "/series",
                "/series/1.2/instances",
                "/series/1.2/instances/1.3",
            ):
                status, headers, body = await ask(f"/studies/{FOREIGN}{path}")
                assert status == 404
                answers.append(
                    (path, status, sorted(set(headers) - {"Date", "X-Request-Id"}), body)
                )
    assert answers[: len(answers) // 2] == answers[len(answers) // 2 :]


@pytest.mark.parametrize("now", ["gone", "another's"])
async def test_metadata_of_what_is_gone_meanwhile_are_not_there(now: str) -> None:
    """A 404 then says nothing of what the archive offers."""
    archive = OddArchive()

    def odd(answer: Sent) -> Sent:
        if answer.kind == "metadata":
            archive.rows = [] if now == "gone" else [row(patient="somebody else")]
            return replace(answer, status=404)
        return answer

    archive.odd = odd
    async with asking(archive) as (ask, _):
        assert (await ask("metadata"))[0] == 404


async def test_lists_of_studies_need_no_series() -> None:
    archive = OddArchive(without("series", 404), rows=[row(_00080061="CT")])
    async with (
        sidecar_between(ScriptedEhr(), archive, fhir={"detail": "study"}) as (url, _),
        aiohttp.ClientSession() as session,
        session.get(f"{url}/fhir/ImagingStudy", headers=HEADERS) as response,
    ):
        assert (response.status, (await response.json(content_type=None))["total"]) == (OK, 1)


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("series", 404, "does not offer series"),
        ("instances", 405, "does not offer instances"),
        ("metadata", 501, "does not offer metadata"),
        ("metadata", 400, "does not offer metadata"),
        ("series", 400, "does not offer series"),
        ("frames", 404, "can be asked for"),
    ],
)
async def test_check_says_what_an_archive_lacks(kind: str, status: int, text: str) -> None:
    archive = OddArchive(without(kind, status))
    async with sidecar_between(ScriptedEhr(), archive) as (_, sidecar):
        finding = await resources(cast("Settings", None), sidecar)
    assert finding.state is (State.OK if kind == "frames" else State.WARN)
    assert text in finding.text
