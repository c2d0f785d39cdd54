"""A foreign instance in an own study at the PACS (misfiled, merged): not one byte of it leaves
(SIA-42, 43).
"""

import json

import aiohttp
import pytest

from tests import dicom_instances as dicom
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import MULTIPART, PART, PATH, answer, part
from tests.fakes.site import HEADERS, sidecar_between
from tests.web.foreign import FOREIGN, failures, metadata_row
from tests.web.streams import counted, streams


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("before", [0, 3, 200])
async def test_a_foreign_instance_in_an_own_study(what: str, before: int) -> None:
    """As an error while nothing was sent, else as a broken connection; counted in either case."""
    whole = PART * before + FOREIGN[what] + PART + b"--abc--\r\n"
    pacs = ScriptedPacs(answer(MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole))
    got = b""
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        try:
            async with client.get(url + PATH, headers=HEADERS) as response:
                async for chunk in response.content.iter_any():
                    got += chunk
                assert response.status == 502
                assert json.loads(got)["resourceType"] == "OperationOutcome"
                got = b""
        except aiohttp.ClientError:
            assert before > 0
        name = "unreadable_instance" if what in ("unreadable", "no patient") else "instance"
        assert failures(sidecar, name) == 1
        assert await counted(sidecar, "verification_failed") == 1
        assert streams(sidecar, "complete") == 0
    # Whole own instances at most.
    assert (PART * before + b"--abc\r\n").startswith(got)


@pytest.mark.parametrize("own", [True, False])
async def test_a_single_instance(own: bool) -> None:
    """``application/dicom`` without multipart."""
    instance = encoded(
        dataset(
            PatientID=PATIENT if own else "somebody-else",
            StudyInstanceUID=STUDY,
            SeriesInstanceUID=SERIES,
            SOPInstanceUID=INSTANCE,
        )
    )
    head = b"Content-Type: application/dicom\r\nContent-Length: %d\r\n" % len(instance)
    path = f"{PATH}/series/{SERIES}/instances/{INSTANCE}"
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(answer(head, instance), inside=None)) as (
            url,
            sidecar,
        ),
        aiohttp.ClientSession() as client,
        client.get(url + path, headers=HEADERS | {"Accept": "application/dicom"}) as response,
    ):
        body = await response.read()
        assert (response.status, body == instance) == ((200, True) if own else (502, False))
        assert failures(sidecar, "instance") == (0 if own else 1)


async def test_another_instance_than_asked_for() -> None:
    """The PACS answers with another instance of the same study."""
    whole = PART + b"--abc--\r\n"
    path = f"{PATH}/series/{SERIES}/instances/{INSTANCE}"
    async with (
        sidecar_between(
            ScriptedEhr(),
            ScriptedPacs(answer(MULTIPART + b"Connection: close\r\n", whole), inside=None),
        ) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(url + path, headers=HEADERS) as response,
    ):
        assert response.status == 502


async def test_verification_can_be_switched_off() -> None:
    """For archives whose files have older PatientIDs than their database; the owner of the study is
    checked anyhow.
    """
    whole = part("an-older-number") + b"--abc--\r\n"
    pacs = ScriptedPacs(answer(MULTIPART + b"Connection: close\r\n", whole), instances=1)
    async with (
        sidecar_between(ScriptedEhr(), pacs, pacs={"verify_instances": False}) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(url + PATH, headers=HEADERS) as response,
    ):
        assert response.status == 200
        assert await response.read() == whole


@pytest.mark.parametrize("foreign_at", [None, 0, 1_500])
async def test_metadata_stream_row_by_row(foreign_at: int | None) -> None:
    """3 MB in pieces; a foreign row is an error or a break."""
    rows = [
        metadata_row("somebody-else" if at == foreign_at else PATIENT, at) for at in range(3_000)
    ]
    body = json.dumps(rows).encode()
    head = b"Content-Type: application/dicom+json\r\nContent-Length: %d\r\n" % len(body)
    pacs = ScriptedPacs(answer(head, body), instances=len(rows))
    got = b""
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        try:
            async with client.get(f"{url}{PATH}/metadata", headers=HEADERS) as response:
                async for chunk in response.content.iter_any():
                    got += chunk
                assert response.status == (200 if foreign_at is None else 502)
        except aiohttp.ClientError:
            assert foreign_at
        assert failures(sidecar, "metadata") == (0 if foreign_at is None else 1)
        if foreign_at is None:
            assert json.loads(got) == rows
    assert b"somebody-else" not in got


@pytest.mark.parametrize("before", [0, 200])
async def test_a_series_that_nobody_decided_on(before: int) -> None:
    """It came while the study was sent: broken off, but no alarm, since nobody else's image was
    about to leave.
    """
    rules = {
        "rules": [
            {"name": "r", "effect": "exclude", "series": {"Modality": ["SR"]}, "unknown": "ignored"}
        ]
    }
    whole = PART * before + part(series=SERIES + ".9") + b"--abc--\r\n"
    pacs = ScriptedPacs(answer(MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole))
    got = b""
    async with (
        sidecar_between(ScriptedEhr(), pacs, access=rules) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        try:
            async with client.get(url + PATH, headers=HEADERS) as response:
                async for chunk in response.content.iter_any():
                    got += chunk
                assert response.status == 503
                assert response.headers["Retry-After"] == "5"
                got = b""
        except aiohttp.ClientError:
            assert before > 0
        assert failures(sidecar, "instance") == 0
        assert await counted(sidecar, "excluded") == 1
    assert (PART * before + b"--abc\r\n").startswith(got)


async def test_what_was_seen_to_be_foreign_is_decided_anew() -> None:
    """The owner that was remembered is dropped at once: what carries no patient inside must not go
    on for its time.
    """
    whole = FOREIGN["another patient"] + b"--abc--\r\n"
    pacs = ScriptedPacs(answer(MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole))
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _), aiohttp.ClientSession() as client:
        async with client.get(url + PATH, headers=HEADERS) as response:
            assert response.status == 502
        # What the archive's database has been saying for a while.
        pacs.patient_id = "somebody-else"
        async with client.get(url + PATH, headers=HEADERS) as response:
            assert response.status == 404


DRAWN = {
    "frames": f"/series/{SERIES}/instances/{INSTANCE}/frames/1",
    "rendered": f"/series/{SERIES}/rendered",
    "thumbnail": f"/series/{SERIES}/instances/{INSTANCE}/thumbnail",
    "study": "/rendered",
    "bulk data": f"/series/{SERIES}/instances/{INSTANCE}/bulkdata/7FE00010",
    "pixel data": f"/series/{SERIES}/instances/{INSTANCE}/pixeldata",
}


@pytest.mark.parametrize("form", DRAWN)
@pytest.mark.parametrize("inside", [PATIENT, "somebody-else", ""])
async def test_what_carries_no_patient_is_looked_into_first(form: str, inside: str) -> None:
    """The archive's rows say that it is the patient's; an instance says whose it is. Nothing of it
    is passed on.
    """
    drawn = answer(b"Content-Type: image/png\r\nContent-Length: 5\r\n", b"PIXEL")
    pacs = ScriptedPacs(drawn, inside=inside)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        for _ in range(2):
            async with client.get(
                url + PATH + DRAWN[form], headers=HEADERS | {"Accept": "image/png"}
            ) as response:
                body = await response.read()
                assert response.status == {PATIENT: 200, "somebody-else": 404, "": 502}[inside]
                assert (body == b"PIXEL") is (inside == PATIENT)
        looks = [one for one in pacs.requests if one.endswith(f"/instances/{INSTANCE}")]
        pictures = [one for one in pacs.requests if one.endswith(DRAWN[form])]
        # Of a study in which something foreign was seen, an instance that is asked for is looked at
        # for itself.
        looked = {PATIENT: 1, "somebody-else": 2 if "instances" in DRAWN[form] else 1, "": 2}
        assert len(looks) == looked[inside]
        assert len(pictures) == (2 if inside == PATIENT else 0)
        assert failures(sidecar, "unreadable_instance") == (2 if inside == "" else 0)


async def test_a_frame_of_a_study_that_was_filed_for_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Owners and what instances name are remembered for minutes; for what names no patient they are
    asked for again.
    """
    monkeypatch.setattr("sidecar.authorization.authorizer.UNNAMED_SECONDS", 0)
    frame = PATH + DRAWN["frames"]
    pacs = ScriptedPacs(answer(b"Content-Type: image/png\r\nContent-Length: 5\r\n", b"PIXEL"))
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        for patient, status in ((PATIENT, 200), ("somebody-else", 404)):
            pacs.patient_id = pacs.inside = patient
            async with client.get(
                url + frame, headers=HEADERS | {"Accept": "image/png"}
            ) as response:
                assert response.status == status
        assert failures(sidecar, "instance") == 0  # A correction is no alarm.


async def test_a_frame_after_something_foreign_is_looked_into_anew() -> None:
    """What was remembered of an instance goes with the owners."""
    whole = FOREIGN["another patient"] + b"--abc--\r\n"
    frame = PATH + DRAWN["frames"]
    pacs = ScriptedPacs(answer(MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole))
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _), aiohttp.ClientSession() as client:
        picture = answer(b"Content-Type: image/png\r\nContent-Length: 5\r\n", b"PIXEL")
        pacs.retrieve, study = picture, pacs.retrieve
        async with client.get(url + frame, headers=HEADERS | {"Accept": "image/png"}) as response:
            assert response.status == 200
        pacs.retrieve = study
        async with client.get(url + PATH, headers=HEADERS) as response:
            assert response.status == 502
        pacs.retrieve, pacs.inside = picture, "somebody-else"
        async with client.get(url + frame, headers=HEADERS | {"Accept": "image/png"}) as response:
            assert response.status == 404


UNKNOWN = b"\x29\x00\x01\x10??\x00\x00"
"""An element of an unknown VR, which readers step over in different ways."""


@pytest.mark.parametrize("before", [0, 3, 200])
async def test_the_log_names_rule_and_place_of_a_refused_instance(
    before: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its position in the answer and its UIDs, no patient; the client is told the same while
    nothing was sent.
    """
    refused = part().replace(b"\x28\x00\x10\x00US", UNKNOWN + b"\x28\x00\x10\x00US", 1)
    whole = PART * before + refused + PART + b"--abc--\r\n"
    pacs = ScriptedPacs(
        answer(MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole), instances=before + 2
    )
    text = ""
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _), aiohttp.ClientSession() as client:
        try:
            async with client.get(url + PATH, headers=HEADERS) as response:
                text = (await response.read()).decode("latin-1")
                assert response.status == 502
        except aiohttp.ClientError:
            assert before
    (line,) = [vars(record) for record in caplog.records if "rule" in vars(record)]
    assert (line["rule"], line["position"]) == ("unknown_vr", before + 1)
    assert (line["study"], line["series"], line["instance"]) == (STUDY, SERIES, dicom.INSTANCE)
    if not before:
        diagnostics = json.loads(text)["issue"][0]["diagnostics"]
        assert "instance 1 of" in diagnostics
        assert "unknown_vr" in diagnostics
        assert STUDY not in diagnostics
