"""A real Open Policy Agent with the example of docs/authorization.md decides, too (SIA-16, 43)."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from aiohttp import web

from tests.fakes.archive import answering
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.installed import installed
from tests.sidecar_process import free_port
from tests.waiting import WAIT_SECONDS, wait_until

ROOT = Path(__file__).parent.parent.parent
OPA = ROOT / "build" / "bin" / "opa"
NOT_INSTALLED = "no Open Policy Agent in build/bin: make opa (needs Go)"
OLD, NEW, OCCUPATIONAL = "1.2.1", "1.2.2", "1.2.3"
STUDIES = {
    OLD: ("20000101", "RADIOLOGY"),
    NEW: ("29991231", "RADIOLOGY"),
    OCCUPATIONAL: ("29991231", "Occupational"),
}

pytestmark = pytest.mark.opa


@pytest.fixture(scope="module")
def opa() -> Iterator[str]:
    """A running one with the example; yields the URL of the decision."""
    installed(OPA.is_file(), NOT_INSTALLED)
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        str(OPA),
        "run",
        "--server",
        "--addr",
        f"127.0.0.1:{port}",
        str(ROOT / "config/opa/imaging.rego"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(
            "its health",
            lambda: requests.get(url + "/health", timeout=60).status_code,
            lambda status: status == 200,
            not_yet=(requests.ConnectionError,),
        )
        yield url + "/v1/data/imaging/access"
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


class Archive:
    """Three studies of the patient, each with a CT and a dose report."""

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""
        return answering(self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        level = request.path.rpartition("/")[2]
        named = request.path.split("/")[3] if request.path.count("/") > 2 else None
        uids = [
            uid for uid in STUDIES if uid in (named or request.query.get("StudyInstanceUID", uid))
        ]
        rows = (
            [_study(uid) for uid in uids]
            if level == "studies"
            else [one for uid in uids for one in _series(uid)]
        )
        wanted = request.query.get("SeriesInstanceUID")
        rows = [one for one in rows if wanted is None or one["0020000E"]["Value"] == [wanted]]
        return web.json_response(
            [] if "offset" in request.query else rows, content_type="application/dicom+json"
        )


def _study(uid: str) -> dict[str, Any]:
    date, service = STUDIES[uid]
    return {
        "00100020": {"vr": "LO", "Value": [PATIENT]},
        "0020000D": {"vr": "UI", "Value": [uid]},
        "00080020": {"vr": "DA", "Value": [date]},
        "00321033": {"vr": "LO", "Value": [service]},
    }


def _series(uid: str) -> list[dict[str, Any]]:
    return [
        _study(uid)
        | {
            "0020000E": {"vr": "UI", "Value": [f"{uid}.{modality}"]},
            "00080060": {"vr": "CS", "Value": [name]},
        }
        for modality, name in enumerate(("CT", "SR"))
    ]


async def seen(url: str, client_id: str) -> dict[str, list[str]]:
    """Which studies and series this client finds; that the rest is a 404, and a study with a hidden
    series a 403.
    """
    ehr = ScriptedEhr()
    ehr.answer["client_id"] = client_id
    headers = {"Authorization": f"Bearer {TOKEN}"}
    access, limits = {"external": {"url": url}}, {"external_timeout_seconds": 60}
    async with (
        sidecar_between(ehr, Archive(), access=access, limits=limits) as (base, sidecar),
        aiohttp.ClientSession(headers=headers) as us,
    ):
        async with us.get(f"{base}/fhir/ImagingStudy") as answer:
            bundle = await answer.json()
            assert answer.status == 200, bundle
        found = {one["resource"]["id"]: one["resource"] for one in bundle.get("entry", [])}
        for uid in STUDIES:
            async with us.get(f"{base}/wado-rs/studies/{uid}") as answer:
                assert answer.status == (403 if uid in found else 404)
            async with us.get(f"{base}/wado-rs/studies/{uid}/series/{uid}.1/metadata") as answer:
                assert answer.status == 404
        assert sidecar.external is not None
        await sidecar.external.probe()
        return {uid: [series["uid"] for series in one["series"]] for uid, one in found.items()}


async def test_the_example(opa: str) -> None:
    assert await seen(opa, "portal") == {OLD: [OLD + ".0"], NEW: [NEW + ".0"]}
    assert await seen(opa, "another-app") == {NEW: [NEW + ".0"]}


async def test_an_undefined_decision_serves_nothing(opa: str) -> None:
    """OPA answers ``{}`` for a rule that is not there."""
    access = {"external": {"url": opa + "/nowhere"}}
    async with (
        sidecar_between(ScriptedEhr(), Archive(), access=access) as (base, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        for path in (
            "/fhir/ImagingStudy",
            f"/wado-rs/studies/{NEW}",
            "/wado-rs/studies",
            f"/fhir/ImagingStudy/{NEW}",
        ):
            async with us.get(base + path) as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "5"
