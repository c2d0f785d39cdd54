"""Attributes in queries to the archive are named by keyword (PS3.18 8.3.4.1, SIA-42)."""

import re
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from pydicom._dicom_dict import DicomDictionary

from sidecar.pacs.dialects import DIALECTS, by_keyword
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import TOKEN, ScriptedEhr
from tests.fakes.retrievals import MULTIPART, PART, answer
from tests.fakes.site import sidecar_between

NAMES = {
    "a tag": ("0020000D", "StudyInstanceUID"),
    "a tag in lower case": ("0020000d", "StudyInstanceUID"),
    "a keyword": ("PatientID", "PatientID"),
    "in a sequence": ("00400275.00400009", "RequestAttributesSequence.ScheduledProcedureStepID"),
    "in a sequence, mixed": (
        "RequestAttributesSequence.00400009",
        "RequestAttributesSequence.ScheduledProcedureStepID",
    ),
    "a private tag": ("77771010", "77771010"),
    "a private tag in a sequence": ("00400275.00091001", "RequestAttributesSequence.00091001"),
    "a tag that nobody knows": ("00080003", "00080003"),
    "retired": ("00101000", "00101000"),
    "a group that repeats": ("60000010", "60000010"),
    "no attribute": ("limit", "limit"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_name(dialect: str, what: str) -> None:
    written, expected = NAMES[what]
    assert by_keyword(written) == expected
    assert DIALECTS[dialect].query([(written, "1")]) == f"{expected}=1"
    fields = DIALECTS[dialect].query([("includefield", f"all,{written},00100020")])
    assert fields == f"includefield=all,{expected},PatientID"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_value_that_looks_like_a_tag_stays(dialect: str) -> None:
    """A PatientID of eight digits, a date, a time."""
    for name in ("PatientID", "StudyDate", "00100020"):
        assert DIALECTS[dialect].query([(name, "00100020")]).endswith("=00100020")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_whoever_asks(dialect: str) -> None:
    """Searches, reads, retrievals and lists of a whole sidecar, and what a client asks for by tag.

    None names a tag, and none goes out without SpecificCharacterSet.
    """
    whole = PART + b"--abc--\r\n"
    pacs = ScriptedPacs(answer(MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole))
    below = f"/wado-rs/studies/{STUDY}"
    rules = {
        "rules": [
            {"name": "x", "effect": "exclude", "study": {"StudyID": ["x"]}, "unknown": "ignored"}
        ]
    }
    async with (
        sidecar_between(
            ScriptedEhr(),
            pacs,
            pacs={"dialect": dialect},
            access=rules,
            fhir={"detail": "instance"},
        ) as (url, sidecar),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        for path in (
            "/fhir/ImagingStudy",
            f"/fhir/ImagingStudy/{STUDY}",
            f"/fhir/ImagingStudy?instance={INSTANCE}",
            f"/fhir/ImagingStudy?bodysite=x&series={SERIES}",
            below,
            f"{below}/metadata",
            f"{below}/series/{SERIES}/instances/{INSTANCE}/frames/1",
            f"{below}/series/{SERIES}/rendered",
            f"{below}/bulkdata",
            "/wado-rs/studies",
            "/wado-rs/series?includefield=all",
            f"{below}/series",
            f"{below}/series/{SERIES}/instances",
            f"{below}/instances",
            f"/wado-rs/studies?00080020=20240101&0020000D={STUDY}&includefield=00081030,00101000",
            "/wado-rs/series?00400275.00400009=1&includefield=0020000e",
        ):
            async with session.get(url + path) as response:
                await response.read()
        await sidecar.readiness.problems()
    queries = [
        parse_qsl(urlsplit(one).query)
        for one in pacs.requests
        if "?" in one and "rendered" not in one
    ]
    assert len(queries) > 10
    fields = [[value for name, value in query if name == "includefield"] for query in queries]
    assert all(
        len(one) == 1 and {"SpecificCharacterSet", "all"} & set(one[0].split(",")) for one in fields
    )
    pairs = [pair for query in queries for pair in query]
    names = {name for name, _ in pairs} | {
        field for name, value in pairs if name == "includefield" for field in value.split(",")
    }
    tags = {
        step for name in names for step in name.split(".") if re.fullmatch("[0-9A-Fa-f]{8}", step)
    }
    assert tags == {"00101000"}  # The client's own field, which is retired.
    assert {
        "PatientID",
        "StudyInstanceUID",
        "SpecificCharacterSet",
        "StudyDate",
        "StudyDescription",
        "RequestAttributesSequence.ScheduledProcedureStepID",
    } <= names


def test_each_keyword_is_read_back_as_its_tag() -> None:
    """No keyword of the dictionary stands for two tags."""
    named = [f"{tag:08X}" for tag in DicomDictionary]
    written = [by_keyword(one) for one in named]
    assert len(set(written)) == len(named)
