"""Which product is the PACS? (A real Orthanc: tests/real/test_orthanc_dialect.py.)"""

import logging

import aiohttp
import pytest

from sidecar.pacs.client import PacsClient
from sidecar.pacs.detection import detect_dialect
from sidecar.pacs.dialects import DIALECTS
from sidecar.server.worker import _compare_dialect
from tests.common.peer import Peer, Reply


@pytest.mark.parametrize(
    ("root", "reply", "expected"),
    [
        (
            "/dicom-web",
            Reply({"DicomWebRoot": "/dicom-web/", "OrthancApiRoot": "./../"}),
            "orthanc",
        ),
        ("/dcm4chee-arc/aets/DCM4CHEE/rs", Reply({}), "dcm4chee"),
        ("/aets/x/rs/other", Reply({}), None),
        ("/rs", Reply({}, 404), None),
        ("/rs", Reply({"DicomWebRoot": "/"}, 404), None),
        ("/rs", Reply("<html>DicomWebRoot</html>"), None),
        ("/rs", Reply(["DicomWebRoot"]), None),
        ("/rs", Reply("x" * 100_000), None),
    ],
)
async def test_detection(
    peer: Peer, session: aiohttp.ClientSession, root: str, reply: Reply, expected: str | None
) -> None:
    peer.say(reply)
    client = PacsClient(session, peer.url + root, DIALECTS["generic"], timeout_seconds=60)
    assert await detect_dialect(client) == expected


async def test_a_pacs_that_is_down_tells_nothing(session: aiohttp.ClientSession) -> None:
    client = PacsClient(session, "http://127.0.0.1:9/rs", DIALECTS["generic"], timeout_seconds=60)
    assert await detect_dialect(client) is None


@pytest.mark.parametrize(
    ("configured", "says"), [("generic", True), ("dcm4chee", True), ("orthanc", False)]
)
async def test_operators_are_told_of_a_wrong_dialect(
    peer: Peer,
    session: aiohttp.ClientSession,
    configured: str,
    says: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.say(Reply({"DicomWebRoot": "/dicom-web/"}))
    with caplog.at_level(logging.WARNING):
        await _compare_dialect(
            PacsClient(session, peer.url + "/rs", DIALECTS[configured], timeout_seconds=60)
        )
    assert [record.message for record in caplog.records] == [
        "the PACS looks like another product: check pacs.dialect"
    ] * says
    assert {vars(record)["detected"] for record in caplog.records} <= {"orthanc"}
