"""Checks of the archive: QIDO-RS, dialect, rows, counts, changes."""

from dataclasses import replace
from typing import Any

import pytest

from sidecar.check.character_sets import hint_of_rows
from sidecar.check.outcome import TOO_SLOW, failure_of, skipped
from sidecar.check.run import check
from sidecar.common.errors import Unavailable
from sidecar.conformance.finding import Finding, State
from tests.check.scripted_site import Pacs, found, served, study
from tests.fakes.ehr import ScriptedEhr


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("level", ["study", "series"])
async def test_an_archive_that_does_not_count(
    ehr: ScriptedEhr, pacs: Pacs, level: str, listed: bool
) -> None:
    """Then instances are listed; where they are not, whole studies would be refused."""
    if level == "study":
        pacs.rows = [
            {name: value for name, value in row.items() if name != "00201208"} for row in pacs.rows
        ]
    else:
        pacs.of_series = {}
    if listed:
        uids = {"0020000D": "1.2.1", "0020000E": "1.9", "00080018": "1.9.1"}
        pacs.instances = [{name: {"vr": "UI", "Value": [uid]} for name, uid in uids.items()}]
    finding = (await found(ehr, pacs))["pacs.counts"]
    assert finding.state is (State.OK if listed else State.FAIL)
    if not listed:
        assert "pacs_uncounted" in finding.text
        assert "NumberOfStudyRelatedInstances" in str(finding.hint)


async def test_an_archive_without_studies_is_not_counted(ehr: ScriptedEhr, pacs: Pacs) -> None:
    pacs.rows = []
    assert (await found(ehr, pacs))["pacs.counts"].state is State.SKIP


async def test_changes_that_cannot_be_read(ehr: ScriptedEhr, pacs: Pacs) -> None:
    """For instance with the DICOMweb root in place of the REST root."""
    async with served(ehr, pacs, pacs={"dialect": "orthanc"}) as settings:
        wrong = replace(settings, pacs=replace(settings.pacs, changes_url=settings.pacs.url))
        finding = {one.name: one for one in await check(wrong, None)}["pacs.changes_url"]
    assert finding.state is State.FAIL
    assert "status 404" in finding.text
    assert "not its DICOMweb root" in str(finding.hint)


@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [
        (401, "pacs_credentials", "check pacs.auth"),
        (404, "status 404", "Is pacs.url the DICOMweb root"),
        (503, "pacs_busy", "it is busy"),
    ],
)
async def test_an_archive_that_refuses(
    ehr: ScriptedEhr, pacs: Pacs, status: int, text: str, hint: str
) -> None:
    pacs.status = status
    findings = await found(ehr, pacs)
    assert findings["pacs.query"].state is State.FAIL
    assert text in findings["pacs.query"].text
    assert hint in str(findings["pacs.query"].hint)
    assert findings["pacs.studies"].text == "needs pacs.query"
    assert findings["pacs.dialect"] == Finding("pacs.dialect", *skipped("needs pacs.query"))


@pytest.mark.parametrize(
    ("changed", "info", "meant"),
    [
        ("", {"DicomWebRoot": "/dicom-web/"}, "/dicom-web"),
        ("/dicom-web/studies", None, "/dicom-web"),
        ("/dcm4chee-arc", None, "/dcm4chee-arc/aets/<AE title>/rs"),
        ("/x/dcm4chee-arc/aets/DCM4CHEE", None, "/x/dcm4chee-arc/aets/<AE title>/rs"),
        ("", None, None),
        ("", {"another": "page"}, None),
        ("/dcm4chee-arc/aets/DCM4CHEE/rs", None, None),
    ],
)
async def test_a_url_that_is_not_the_dicomweb_root(
    ehr: ScriptedEhr, pacs: Pacs, changed: str, info: dict[str, Any] | None, meant: str | None
) -> None:
    pacs.info = info
    async with served(ehr, pacs) as settings:
        base = settings.pacs.url.removesuffix("/dicom-web")
        wrong = replace(settings, pacs=replace(settings.pacs, url=base + changed))
        finding = {one.name: one for one in await check(wrong, None)}["pacs.query"]
    assert finding.state is State.FAIL
    hint = str(finding.hint)
    assert hint.endswith(f"set pacs.url: {base}{meant}" if meant else "and pacs.dialect right?")


async def test_a_refused_query_may_be_for_another_product(ehr: ScriptedEhr, pacs: Pacs) -> None:
    pacs.status, pacs.info = 400, {"DicomWebRoot": "/dicom-web/"}
    findings = await found(ehr, pacs)
    assert findings["pacs.query"].state is State.FAIL
    assert (
        findings["pacs.dialect"].hint == "Set pacs.dialect: orthanc; else queries may be misread."
    )


async def test_another_product(ehr: ScriptedEhr, pacs: Pacs) -> None:
    pacs.info = {"DicomWebRoot": "/dicom-web/"}
    finding = (await found(ehr, pacs, pacs={"dialect": "dcm4chee"}))["pacs.dialect"]
    assert (finding.state, finding.hint) == (
        State.FAIL,
        "Set pacs.dialect: orthanc; else queries may be misread.",
    )
    assert (await found(ehr, pacs, pacs={"dialect": "orthanc"}))["pacs.dialect"].state is State.OK
    pacs.info = None
    assert (await found(ehr, pacs, pacs={"dialect": "orthanc"}))["pacs.dialect"].state is State.WARN


async def test_an_archive_that_does_not_page(ehr: ScriptedEhr, pacs: Pacs) -> None:
    pacs.pages = False
    finding = (await found(ehr, pacs))["pacs.studies"]
    assert finding.state is State.FAIL
    assert "LimitFindResults" in str(finding.hint)


ISSUERS = {"patients": {"issuer": "HOSPITAL"}}


MADE_UP = "DCM4CHEE.1F2E3D4C.5B6A7988"


COUNT_AS_NONE = {"pacs": {"generated_issuers": ["DCM4CHEE.*"]}}


@pytest.mark.parametrize(
    ("rows", "changes", "state", "text"),
    [
        ([], {}, State.SKIP, "no study"),
        ([study("1.2.1")], {}, State.OK, "1 looked at"),
        ([study("1.2.1", None), study("1.2.2")], {}, State.OK, "1 without a PatientID"),
        ([study("1.2.1", None), study("1.2.2", None)], {}, State.FAIL, "PatientID"),
        ([study("1.2.1", issuer="HOSPITAL"), study("1.2.2")], ISSUERS, State.OK, "2 looked at"),
        ([study("1.2.1"), study("1.2.2")], ISSUERS, State.WARN, "issuer"),
        ([study("1.2.1", issuer="A"), study("1.2.2", issuer="B")], {}, State.WARN, "2 issuers"),
        (
            [study("1.2.1", issuer="A"), study("1.2.2")],
            {},
            State.WARN,
            "1 issuers of patient IDs, or none",
        ),
        (
            [study("1.2.1", issuer=MADE_UP), study("1.2.2")],
            {},
            State.WARN,
            "1 of 2 studies have an issuer that dcm4chee",
        ),
        (
            [study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="HOSPITAL")],
            ISSUERS,
            State.WARN,
            "dcm4chee made up",
        ),
        ([study("1.2.1", issuer=MADE_UP), study("1.2.2")], COUNT_AS_NONE, State.OK, "2 looked at"),
        (
            [study("1.2.1", issuer=MADE_UP), study("1.2.2")],
            COUNT_AS_NONE,
            State.OK,
            "1 with an issuer that counts as none",
        ),
        (
            [study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="HOSPITAL")],
            ISSUERS | COUNT_AS_NONE,
            State.WARN,
            "1 of 2 studies have an issuer that dcm4chee made up",
        ),
        (
            [study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="A")],
            COUNT_AS_NONE,
            State.WARN,
            "1 issuers",
        ),
    ],
)
async def test_what_the_rows_say_of_patients(
    ehr: ScriptedEhr,
    pacs: Pacs,
    rows: list[dict[str, Any]],
    changes: dict[str, Any],
    state: State,
    text: str,
) -> None:
    pacs.rows = rows
    finding = (await found(ehr, pacs, **changes))["pacs.studies"]
    assert finding.state is state
    assert text in finding.text


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("pacs_warming", TOO_SLOW),
        ("pacs_timeout", TOO_SLOW),
        ("query_too_many_results", "limits.query_results"),
        ("query_too_large", "limits.query_results"),
        ("query_not_json", "as JSON"),
    ],
)
def test_what_an_archive_needs_whose_lists_cannot_be_used(reason: str, hint: str) -> None:
    problem = Unavailable("", reason=reason)
    assert hint in str(failure_of(problem, hint_of_rows(problem)).hint)


async def test_a_query_for_numbers_that_is_refused_is_not_an_archive_that_does_not_count(
    ehr: ScriptedEhr, pacs: Pacs
) -> None:
    """What does not build on the numbers is looked at all the same."""
    pacs.countable = False
    rules = [
        {
            "name": "none",
            "effect": "exclude",
            "study": {"StudyDescription": ["no such"]},
            "unknown": "ignored",
        }
    ]
    findings = await found(ehr, pacs, access={"rules": rules})
    assert (findings["pacs.counts"].state, findings["pacs.counts"].text) == (
        State.FAIL,
        "pacs_query_refused",
    )
    assert "must return" not in str(findings["pacs.counts"].hint)
    assert findings["pacs.changes_url"].state is State.OK
    assert findings["access.rules"].state is State.WARN  # The rows have no description.
