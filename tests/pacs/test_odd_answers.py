"""What archives answer, and what the client gets: the table is the specification."""

import json
from dataclasses import replace

import pytest

from tests.fakes.archive import INSTANCE, SERIES, STUDY
from tests.fakes.ehr import PATIENT
from tests.fakes.odd_archive import PATHS, OddArchive, Sent, row, with_body
from tests.pacs.odd_answers import OK, RESET, Odd, asking, only

AROUND: dict[str, tuple[Odd, dict[str, int]]] = {
    "JSON without an end of its own": (
        lambda answer: replace(answer, framing="close"),
        dict.fromkeys(PATHS, OK),
    ),
    "cut": (
        lambda answer: replace(answer, framing="close", body=answer.body[:-9]),
        dict.fromkeys(PATHS, 502),
    ),
    "octets alone": (
        lambda answer: replace(answer, content_type="application/octet-stream", framing="close"),
        dict.fromkeys(PATHS, 502) | {"list": OK, "instances": OK},
    ),
    "application/json": (
        lambda answer: replace(
            answer, content_type=answer.content_type.replace("dicom+json", "json; charset=utf-8")
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a byte order mark": (
        lambda answer: replace(answer, body=b"\xef\xbb\xbf" + answer.body),
        {"list": OK, "instances": OK, "metadata": OK, "study": 502, "instance": 502, "frames": 502},
    ),
    "UTF-16": (
        lambda answer: replace(answer, body=answer.body.decode("latin-1").encode("utf-16")),
        dict.fromkeys(PATHS, 502),
    ),
    "no type in the head": (
        lambda answer: replace(
            answer, content_type=answer.content_type.split("; type=")[0] + "; boundary=abc"
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "no type in head and part": (
        lambda answer: with_body(
            replace(
                answer, content_type=answer.content_type.split("; type=")[0] + "; boundary=abc"
            ),
            b"Content-Type: application/",
            b"X-Type: application/",
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a Latin-1 file name": (
        lambda answer: with_part_line(
            answer, 'Content-Disposition: attachment; filename="M\xfcller.dcm"'.encode("latin-1")
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a UTF-8 file name": (
        lambda answer: with_part_line(
            answer, 'Content-Disposition: attachment; filename="M\xfcller.dcm"'.encode()
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a name in the type": (
        lambda answer: with_body(
            answer,
            b"Content-Type: application/dicom",
            b'Content-Type: application/dicom; name="\xfc"',
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a length that is no number": (
        lambda answer: with_part_line(answer, b"Content-Length: \xb2"),
        {"list": OK, "instances": OK, "metadata": OK, "study": 502, "instance": 502, "frames": 502},
    ),
    "a name of a line": (
        lambda answer: with_part_line(answer, b"\xfc: 1"),
        {"list": OK, "instances": OK, "metadata": OK, "study": 502, "instance": 502, "frames": 502},
    ),
}


def with_part_line(answer: Sent, line: bytes) -> Sent:
    """The answer with one more header line in its part."""
    return with_body(answer, b"--abc\r\n", b"--abc\r\n" + line + b"\r\n")


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("case", AROUND)
async def test_around_the_content(case: str) -> None:
    """How a body is framed, typed and marked: what is served is what a usual archive would have
    been served with.
    """
    odd, statuses = AROUND[case]
    archive = OddArchive()
    async with asking(archive) as (ask, _):
        plain = {kind: await ask(kind) for kind in PATHS}
        for kind, status in statuses.items():
            archive.odd = only(kind, odd)
            received, headers, body = await ask(kind)
            assert received in ((OK,) if status == OK else (status, RESET)), kind
            if status == OK:
                assert (
                    headers["Content-Type"].split(";")[0]
                    == plain[kind][1]["Content-Type"].split(";")[0]
                )
                assert contents(body) == contents(plain[kind][2])
                assert "type=" in headers["Content-Type"] or kind not in ("study", "instance")


def contents(body: bytes) -> bytes:
    """A body without the header lines of its part."""
    return body.partition(b"\r\n\r\n")[2] if body.startswith(b"--abc") else body


OTHER = "1.2.840.2"
"""A second study of the patient, whose row is the odd one."""


def two_rows(old: str, new: bytes) -> Odd:
    """Rows of two studies, with ``new`` for ``old`` in the second one."""

    def odd(answer: Sent) -> Sent:
        rows = [row(_00081030="Sound"), row(study=OTHER, _00081030="Thorax", _00189345="1.5")]
        first, second = (json.dumps(study_row, ensure_ascii=False).encode() for study_row in rows)
        assert old.encode() in second
        return replace(answer, body=b"[" + first + b"," + second.replace(old.encode(), new) + b"]")

    return odd


ROWS: dict[str, tuple[Odd, object]] = {
    "sound": (two_rows("Thorax", b"Thorax"), "Thorax"),
    "NaN": (two_rows('"1.5"', b"NaN"), "Thorax"),
    "-Infinity": (two_rows('"1.5"', b"-Infinity"), "Thorax"),
    "Latin-1": (two_rows("Thorax", b"Th\xf6rax"), "Th\ufffdrax"),
    "a cut UTF-8 sequence": (two_rows("Thorax", b"Thora\xc3"), "Thora\ufffd"),
    "half a surrogate pair": (two_rows("Thorax", b"Th\\ud83dax"), "Th\ufffdax"),
    "a control character": (two_rows("Thorax", b"Th\x1bax"), "Th\x1bax"),
    "a PatientID in Latin-1": (two_rows(PATIENT, PATIENT.encode() + b"\xfc"), None),
    "a bad byte in the PatientID": (two_rows(f'"{PATIENT}"', b'"%s\xff"' % PATIENT.encode()), None),
    "NaN for the PatientID": (two_rows(f'"{PATIENT}"', b"NaN"), None),
    "a bad byte in the StudyInstanceUID": (two_rows(OTHER, OTHER.encode() + b"\xff"), None),
    "an integer of 30 digits": (two_rows('"1.5"', b"NaN, " + b"9" * 30), "Thorax"),
    "NaN before the PatientID": (two_rows(f'"{PATIENT}"', b'NaN, "%s"' % PATIENT.encode()), None),
    "null before the PatientID": (two_rows(f'"{PATIENT}"', b'null, "%s"' % PATIENT.encode()), None),
    "two PatientIDs": (
        two_rows('"00100020"', b'"00100020": {"vr": "LO", "Value": ["x"]}, "00100020"'),
        502,
    ),
    "a bad byte in a tag": (two_rows("00081030", b"0008103\xff"), 502),
    "a bad byte in a member": (two_rows('"vr"', b'"v\xff"'), 502),
    "no JSON at all": (two_rows('"1.5"', b"nan"), 502),
}


@pytest.mark.parametrize("case", ROWS)
async def test_one_row_that_is_no_json(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """The rest is served, and the row without its bad value; but nobody gets one that may be
    somebody else's.
    """
    odd, wanted = ROWS[case]
    archive = OddArchive(only("list", odd), rows=[row(), row(study=OTHER)])
    async with asking(archive) as (ask, _):
        status, _, body = await ask("list")
    if wanted == 502:
        assert status == 502
        return
    assert status == OK
    descriptions = {
        study_row["0020000D"]["Value"][0]: study_row["00081030"]["Value"][0]
        for study_row in json.loads(body)
    }
    assert descriptions == {STUDY: "Sound"} | ({} if wanted is None else {OTHER: wanted})
    assert ("values that are no JSON" in caplog.text) is (case != "sound" and "null" not in case)


@pytest.mark.parametrize("old", [f'"{PATIENT}"', f'"{STUDY}"'])
@pytest.mark.parametrize("new", [b'"x\xff"', b"NaN", b'"\\ud800"', b'["\xff"]'])
async def test_an_owner_who_cannot_be_read_is_not_missed(old: str, new: bytes) -> None:
    """A second row of the study may be another patient's: then nobody gets it, as where that one
    can be read.
    """

    def spoiled(answer: Sent) -> Sent:
        if answer.kind != "owners" or answer.body == b"[]":
            return answer
        sound = answer.body[1:-1]
        return replace(answer, body=b"[" + sound + b"," + sound.replace(old.encode(), new) + b"]")

    async with asking(OddArchive(spoiled)) as (ask, _):
        assert (await ask("study"))[0] == 404
        assert (await ask("frames"))[0] == 404


METADATA: dict[str, tuple[bytes, bytes, int, bytes]] = {
    "NaN": (b"[1]", b"[NaN]", OK, b"[null]"),
    "Latin-1": (
        b"]}}",
        b']},"00081030":{"vr":"LO","Value":["M\xfcller"]}}',
        OK,
        "M\ufffdller".encode(),
    ),
    "a PatientID": (PATIENT.encode(), PATIENT.encode() + b"\xff", 502, b""),
    "NaN before a PatientID": (
        b'"%s"' % PATIENT.encode(),
        b'NaN, "%s"' % PATIENT.encode(),
        502,
        b"",
    ),
    "null before a PatientID": (
        b'"%s"' % PATIENT.encode(),
        b'null, "%s"' % PATIENT.encode(),
        502,
        b"",
    ),
    "NaN before a UID": (b'"%s"' % STUDY.encode(), b'NaN, "%s"' % STUDY.encode(), 502, b""),
    "two PatientIDs": (
        b'"00100020"',
        b'"00100020": {"vr": "LO", "Value": ["x"]}, "00100020"',
        502,
        b"",
    ),
    "a UID": (b'"%s"' % STUDY.encode(), b'"%s\xff"' % STUDY.encode(), 502, b""),
    "a tag": (b"00201208", b"0020120\xff", 502, b""),
}


@pytest.mark.parametrize("case", METADATA)
@pytest.mark.parametrize("large", [False, True])
async def test_metadata_that_are_no_json(
    case: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an instance all is served that can be read; one that does not say whose it is, is not."""
    if large:
        monkeypatch.setattr("sidecar.dicomweb.metadata.PART_BYTES", 100)
        monkeypatch.setattr("sidecar.dicomweb.large_row.PART_BYTES", 100)
    old, new, wanted, expected = METADATA[case]
    odd = only("metadata", lambda answer: with_body(answer, old, new))
    async with asking(OddArchive(odd)) as (ask, _):
        status, _, body = await ask("metadata")
    assert (status in (502, RESET)) if wanted == 502 else (status == OK)
    assert expected in body


@pytest.mark.parametrize("refusal", [406, 415])
async def test_an_archive_that_knows_application_json_alone(refusal: int) -> None:
    """It is asked again once, and then no request costs two."""
    archive = OddArchive(
        lambda answer: replace(
            answer, content_type=answer.content_type.replace("dicom+json", "json")
        ),
        accepts=lambda kind, accept: refusal if "dicom+json" in accept else OK,
    )
    async with asking(archive) as (ask, _):
        assert [(await ask(kind))[0] for kind in PATHS] == [OK] * len(PATHS)
        first = [accept for _, accept in archive.asked]
        assert first.count("application/dicom+json") == 2  # A list, and metadata.
        _, headers, _ = await ask("metadata")
        assert headers["Content-Type"] == "application/dicom+json"
        assert [(await ask(kind))[0] for kind in PATHS] == [OK] * len(PATHS)
        assert [accept for _, accept in archive.asked].count("application/dicom+json") == 2


async def test_an_archive_that_knows_neither_is_not_asked_twice_each_time() -> None:
    archive = OddArchive(accepts=lambda kind, accept: 406 if "json" in accept else OK)
    async with asking(archive) as (ask, _):
        assert (await ask("list"))[0] == 502
        before = len(archive.asked)
        assert (await ask("list"))[0] == 502
        assert len(archive.asked) == before + 1


@pytest.mark.parametrize("old", [f'"{PATIENT}"', f'"{SERIES}"', f'"{INSTANCE}"'])
async def test_an_instance_of_somebody_who_cannot_be_read_is_nobodys(old: str) -> None:
    """Some archives name no patient below a study. A value that cannot be read is not one that is
    missing.
    """
    odd = only("instances", lambda answer: with_body(answer, old.encode(), b"NaN"))
    async with asking(OddArchive(odd)) as (ask, _):
        assert (await ask("instance"))[0] == 404
        assert (await ask("instances"))[2] == b"[]"
