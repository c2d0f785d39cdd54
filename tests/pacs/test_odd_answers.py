"""What archives answer, and what the client gets: the table is the specification."""

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import pytest
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy

from tests.common.peer import all_that_is_said
from tests.fakes.archive import INSTANCE, SERIES, STUDY
from tests.fakes.ehr import PATIENT
from tests.fakes.odd_archive import PATHS, OddArchive, Sent, row, with_body
from tests.pacs.odd_answers import OK, RESET, Odd, asking


@pytest.fixture(params=[HttpResponseParser, HttpResponseParserPy], ids=["compiled", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of aiohttp's parsers of answers."""
    monkeypatch.setattr(aiohttp.client_proto, "HttpResponseParser", request.param)


def coded(answer: Sent, coding: str, body: bytes | None = None, **more: object) -> Sent:
    if body is None:
        body = gzip.compress(answer.body) if coding in ("gzip", "x-gzip") else answer.body
        body = zlib.compress(body) if coding == "deflate" else body
    lines = (("Content-Encoding", coding), ("ETag", '"encoded"'), ("Accept-Ranges", "bytes"))
    return replace(answer, body=body, more=lines, **more)  # type: ignore[arg-type]


def only(kind: str, odd: Odd) -> Odd:
    """Change answers of this kind alone."""
    return lambda answer: odd(answer) if answer.kind == kind else answer


def zipped(answer: Sent) -> bytes:
    return gzip.compress(answer.body)


ENCODED: dict[str, tuple[Odd, int]] = {
    "gzip": (lambda one: coded(one, "gzip"), OK),
    "GZIP": (lambda one: coded(one, "GZIP", zipped(one)), OK),
    "x-gzip": (lambda one: coded(one, "x-gzip"), OK),
    "deflate": (lambda one: coded(one, "deflate"), OK),
    "gzip in chunks": (lambda one: coded(one, "gzip", framing="chunked"), OK),
    "gzip and identity": (lambda one: coded(one, "identity, gzip", zipped(one)), OK),
    "two members": (
        lambda one: coded(one, "gzip", gzip.compress(one.body[:9]) + gzip.compress(one.body[9:])),
        OK,
    ),
    "identity by name": (lambda one: coded(one, "identity"), OK),
    "cut": (lambda one: coded(one, "gzip", zipped(one)[:-9]), 502),
    "a member is cut": (lambda one: coded(one, "gzip", zipped(one) + zipped(one)[:9]), 502),
    "garbage behind it": (lambda one: coded(one, "gzip", zipped(one) + b"garbage"), 502),
    "a wrong checksum": (lambda one: coded(one, "gzip", zipped(one)[:-8] + bytes(8)), 502),
    "not gzip at all": (lambda one: coded(one, "gzip", one.body), 502),
    "deflate without zlib's head": (
        lambda one: coded(one, "deflate", zlib.compress(one.body)[2:-4]),
        502,
    ),
    "br": (lambda one: coded(one, "br"), 502),
    "zstd": (lambda one: coded(one, "zstd"), 502),
    "unknown": (lambda one: coded(one, "a-secret"), 502),
    "twice": (lambda one: coded(one, "gzip, gzip", gzip.compress(zipped(one))), 502),
}


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("case", ENCODED)
async def test_encoded_answers(case: str) -> None:
    """RFC 9110 8.4: what is decoded leaves as what it was before, without a length or tag of the
    encoded form.
    """
    odd, status = ENCODED[case]
    archive = OddArchive()
    async with asking(archive) as (ask, _):
        plain = {kind: await ask(kind) for kind in PATHS}
        assert {one[0] for one in plain.values()} == {OK}
        for kind in PATHS:
            archive.odd = only(kind, odd)
            found, headers, body = await ask(kind)
            if status != OK:
                assert found in (status, RESET), kind
                continue
            assert (found, body) == (OK, plain[kind][2]), kind
            assert "Content-Encoding" not in headers
            assert headers.get("Content-Length", str(len(body))) == str(len(body))
            assert case == "identity by name" or not {"ETag", "Accept-Ranges"} & set(headers)


@pytest.mark.parametrize(
    ("coding", "detail"),
    [
        ("br", "br"),
        ("zstd", "zstd"),
        ("a-secret", "unknown"),
        ("gzip, gzip", "several"),
        ("gzip", "malformed"),
    ],
)
async def test_the_log_names_the_encoding(
    coding: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    archive = OddArchive()
    async with asking(archive) as (ask, _):
        for kind in ("list", "metadata"):
            archive.odd = only(kind, lambda answer: coded(answer, coding, b"[not gzip]"))
            assert (await ask(kind))[0] == 502
    named = [vars(record).get("detail") or vars(record).get("reason") for record in caplog.records]
    assert detail in named
    assert named.count(detail) == 2 or "pacs_encoded_malformed" in named
    assert "secret" not in all_that_is_said(caplog)


BOMBS: dict[str, Callable[[Sent], bytes]] = {
    "white space": lambda answer: b"[" + b" " * 70_000_000,
    "rows": lambda answer: b"[" + answer.body[1:-1] + (b"," + answer.body[1:-1]) * 25_000 + b"]",
    "empty members": lambda answer: b"",
    "before the first part": lambda answer: bytes(70_000_000),
}


@pytest.mark.parametrize("case", BOMBS)
async def test_a_bomb_is_refused(case: str) -> None:
    """What is too much ends it, as it does for what comes as it is; ``tests/stalls.py`` reports the
    longest stall.
    """

    def odd(answer: Sent) -> Sent:
        members = (
            gzip.compress(b"") * 50_000
            if case == "empty members"
            else gzip.compress(BOMBS[case](answer), 9)
        )
        assert len(members) < 4_000_000
        return coded(answer, "gzip", members)

    archive = OddArchive()
    async with asking(archive) as (ask, _):
        for kind in ("list", "metadata", "study"):
            archive.odd = only(kind, odd)
            assert (await ask(kind))[0] in (502, RESET), kind


async def test_a_range_of_an_encoded_body_is_refused() -> None:
    """Its bytes are those of the encoded form, and it cannot be decoded."""

    def odd(answer: Sent) -> Sent:
        if answer.kind != "frames":
            return answer
        more = (("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-9/90"))
        return replace(
            answer, status=206, body=zipped(answer)[:10], content_type="image/jpeg", more=more
        )

    async with asking(OddArchive(odd)) as (ask, _):
        assert (await ask("frames", Range="bytes=0-9"))[0] == 502


AROUND: dict[str, tuple[Odd, dict[str, int]]] = {
    "JSON without an end of its own": (
        lambda one: replace(one, framing="close"),
        dict.fromkeys(PATHS, OK),
    ),
    "cut": (
        lambda one: replace(one, framing="close", body=one.body[:-9]),
        dict.fromkeys(PATHS, 502),
    ),
    "octets alone": (
        lambda one: replace(one, content_type="application/octet-stream", framing="close"),
        dict.fromkeys(PATHS, 502) | {"list": OK, "instances": OK},
    ),
    "application/json": (
        lambda one: replace(
            one, content_type=one.content_type.replace("dicom+json", "json; charset=utf-8")
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a byte order mark": (
        lambda one: replace(one, body=b"\xef\xbb\xbf" + one.body),
        {"list": OK, "instances": OK, "metadata": OK, "study": 502, "instance": 502, "frames": 502},
    ),
    "UTF-16": (
        lambda one: replace(one, body=one.body.decode("latin-1").encode("utf-16")),
        dict.fromkeys(PATHS, 502),
    ),
    "no type in the head": (
        lambda one: replace(
            one, content_type=one.content_type.split("; type=")[0] + "; boundary=abc"
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "no type in head and part": (
        lambda one: with_body(
            replace(one, content_type=one.content_type.split("; type=")[0] + "; boundary=abc"),
            b"Content-Type: application/",
            b"X-Type: application/",
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a Latin-1 file name": (
        lambda one: with_part_line(
            one, 'Content-Disposition: attachment; filename="M\xfcller.dcm"'.encode("latin-1")
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a UTF-8 file name": (
        lambda one: with_part_line(
            one, 'Content-Disposition: attachment; filename="M\xfcller.dcm"'.encode()
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a name in the type": (
        lambda one: with_body(
            one, b"Content-Type: application/dicom", b'Content-Type: application/dicom; name="\xfc"'
        ),
        dict.fromkeys(PATHS, OK),
    ),
    "a length that is no number": (
        lambda one: with_part_line(one, b"Content-Length: \xb2"),
        {"list": OK, "instances": OK, "metadata": OK, "study": 502, "instance": 502, "frames": 502},
    ),
    "a name of a line": (
        lambda one: with_part_line(one, b"\xfc: 1"),
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
            found, headers, body = await ask(kind)
            assert found in ((OK,) if status == OK else (status, RESET)), kind
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
        first, second = (json.dumps(one, ensure_ascii=False).encode() for one in rows)
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
    found = {one["0020000D"]["Value"][0]: one["00081030"]["Value"][0] for one in json.loads(body)}
    assert found == {STUDY: "Sound"} | ({} if wanted is None else {OTHER: wanted})
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
    odd = only("metadata", lambda one: with_body(one, old, new))
    async with asking(OddArchive(odd)) as (ask, _):
        status, _, body = await ask("metadata")
    assert (status in (502, RESET)) if wanted == 502 else (status == OK)
    assert expected in body


@pytest.mark.parametrize("refusal", [406, 415])
async def test_an_archive_that_knows_application_json_alone(refusal: int) -> None:
    """It is asked again once, and then no request costs two."""
    archive = OddArchive(
        lambda one: replace(one, content_type=one.content_type.replace("dicom+json", "json")),
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
    odd = only("instances", lambda one: with_body(one, old.encode(), b"NaN"))
    async with asking(OddArchive(odd)) as (ask, _):
        assert (await ask("instance"))[0] == 404
        assert (await ask("instances"))[2] == b"[]"
