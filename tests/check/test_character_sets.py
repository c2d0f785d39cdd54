"""Checks of the character sets of the archive."""

from typing import Any

import pytest

from sidecar.bootstrap.build import build
from sidecar.check.archive import counts, studies
from sidecar.check.character_sets import character_sets
from sidecar.check.outcome import skipped
from sidecar.check.run import Check
from sidecar.conformance.finding import Finding, State
from tests.check.scripted_site import Pacs, found, served, study
from tests.fakes.ehr import ScriptedEhr


def written(character_set: str | None, patient: str = "p1") -> dict[str, Any]:
    """A study's row in a character set."""
    row = study("1.2.1", patient)
    return (
        row if character_set is None else row | {"00080005": {"vr": "CS", "Value": [character_set]}}
    )


CHARACTER_SETS: list[tuple[str, list[dict[str, Any]], State, str]] = [
    ("orthanc", [written("ISO_IR 192")], State.OK, ""),
    ("orthanc", [written("ISO_IR 100")], State.WARN, '"DefaultEncoding": "Utf8"'),
    ("orthanc", [written(None)], State.WARN, '"DefaultEncoding": "Utf8"'),
    ("dcm4chee", [written("ISO_IR 100"), written(None)], State.OK, "2"),
    ("generic", [written(None, "Ä"), written("ISO_IR 192", "Ä")], State.OK, "2"),
    (
        "generic",
        [written(None), written(None, "P\ufffd"), written("ISO_IR 999")],
        State.WARN,
        "2 of 3",
    ),
    ("generic", [], State.SKIP, "no study"),
]


@pytest.mark.parametrize(("dialect", "rows", "state", "says"), CHARACTER_SETS)
async def test_the_character_sets_of_the_archive(
    ehr: ScriptedEhr, pacs: Pacs, dialect: str, rows: list[dict[str, Any]], state: State, says: str
) -> None:
    """Orthanc names that of its DefaultEncoding; unreadable PatientIDs are counted for all."""
    info = {"orthanc": {"Name": "Orthanc"}}.get(dialect)
    async with served(ehr, pacs, pacs={"dialect": dialect}) as settings, build(settings) as sidecar:
        pacs.rows, pacs.info = rows, info
        finding = await character_sets(settings, sidecar)
    assert finding.state is state
    assert says in f"{finding}"
    assert "P\ufffd" not in f"{finding}"


async def test_an_orthanc_that_would_leave_characters_out(ehr: ScriptedEhr, pacs: Pacs) -> None:
    async with (
        served(ehr, pacs, pacs={"dialect": "orthanc"}) as settings,
        build(settings) as sidecar,
    ):
        pacs.rows, pacs.writes_character_sets = [written("ISO_IR 100")], False
        finding = await character_sets(settings, sidecar)
        assert (finding.state, "Utf8" in f"{finding}") == (State.FAIL, True)
        pacs.status = 500
        assert (await character_sets(settings, sidecar)).state is State.FAIL


async def test_character_sets_do_not_wait_for_the_lists_that_they_spoil(
    ehr: ScriptedEhr, pacs: Pacs
) -> None:
    """An Orthanc that writes Latin-1, with an image in ISO 2022: the finding has the remedy."""
    pacs.info, pacs.writes_character_sets, pacs.rows = (
        {"DicomWebRoot": "/dicom-web/"},
        False,
        [written("ISO_IR 100")],
    )
    findings = await found(ehr, pacs, pacs={"dialect": "orthanc"})
    assert findings["pacs.character_sets"].state is State.FAIL
    assert '"DefaultEncoding": "Utf8"' in str(findings["pacs.character_sets"].hint)
    assert findings["pacs.studies"] == Finding(
        "pacs.studies", *skipped("needs pacs.character_sets")
    )
    assert findings["pacs.changes_url"].state is State.OK


@pytest.mark.parametrize("check_of_rows", [studies, counts])
async def test_lists_that_lack_characters_have_their_own_hint(
    ehr: ScriptedEhr, pacs: Pacs, check_of_rows: Check
) -> None:
    pacs.writes_character_sets, pacs.rows = False, [written("ISO_IR 100")]
    async with (
        served(ehr, pacs, pacs={"dialect": "orthanc"}) as settings,
        build(settings) as sidecar,
    ):
        finding = await check_of_rows(settings, sidecar)
    assert (finding.state, "query_character_set" in finding.text) == (State.FAIL, True)
    assert '"DefaultEncoding": "Utf8"' in str(finding.hint)
