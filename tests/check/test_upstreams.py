"""What ``check`` says of upstreams that are not as they should be: each fault has its line and a
way out.
"""

from typing import Any

import pytest

from sidecar.check.character_sets import TOO_SLOW, hint_of_rows
from sidecar.check.finding import skipped, slow_ehr
from sidecar.check.run import check
from sidecar.common.errors import Unavailable
from sidecar.conformance.finding import Finding, State, table
from sidecar.settings.tokens import IntrospectionSettings
from tests.check.checked import Pacs, found, served, study
from tests.fakes.ehr import ScriptedEhr


async def test_fine(ehr: ScriptedEhr, pacs: Pacs) -> None:
    findings = await found(ehr, pacs)
    assert {name: one.state for name, one in findings.items()} == {
        "server.public_url": State.OK, "audit.sink": State.OK, "capabilities": State.OK,
        "ehr.smart_configuration": State.WARN, "tokens.introspection": State.OK,
        "tokens.jwt": State.OK,
        "patients.mapping": State.OK, "pacs.query": State.OK, "pacs.dialect": State.OK,
        "pacs.studies": State.OK,
        "pacs.counts": State.OK, "pacs.character_sets": State.OK, "pacs.changes_url": State.OK,
        "pacs.resources": State.WARN,
        "access.rules": State.OK, "access.clients": State.OK, "access.external": State.OK,
        "token": State.SKIP,
    }  # fmt: skip
    # ScriptedEhr names none.
    assert "authorization_endpoint" in findings["ehr.smart_configuration"].text


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


async def test_an_introspection_that_says_yes_to_everything(ehr: ScriptedEhr, pacs: Pacs) -> None:
    ehr.answer = ScriptedEhr().answer
    finding = (await found(ehr, pacs))["tokens.introspection"]
    assert finding.state is State.FAIL
    assert "Do not serve" in str(finding.hint)


@pytest.mark.parametrize(
    ("status", "answer", "text"),
    [(401, {}, "introspection_bad_credentials"),
     (500, {}, "introspection_unexpected_status (status 500)"),
     (200, "<html>", "introspection_not_json"), (200, [], "introspection_"),
     (404, {}, "status 404")],
)  # fmt: skip
async def test_an_introspection_that_does_not_work(
    ehr: ScriptedEhr, pacs: Pacs, status: int, answer: Any, text: str
) -> None:
    ehr.status, ehr.answer = status, answer
    findings = await found(ehr, pacs)
    assert findings["tokens.introspection"].state is State.FAIL
    assert text in findings["tokens.introspection"].text
    assert findings["patients.mapping"] == skipped("patients.mapping", "needs tokens.introspection")
    assert findings["pacs.studies"].state is State.OK  # The other side is looked at all the same.


async def test_no_discovery(ehr: ScriptedEhr, pacs: Pacs) -> None:
    ehr.configuration_status = 500
    finding = (await found(ehr, pacs))["ehr.smart_configuration"]
    assert (finding.state, finding.text) == (State.FAIL, "discovery_unexpected_status (status 500)")
    assert "ehr.fhir_url" in str(finding.hint)


async def test_changes_that_cannot_be_read(ehr: ScriptedEhr, pacs: Pacs) -> None:
    """For instance with the DICOMweb root in place of the REST root."""
    async with served(ehr, pacs, pacs={"dialect": "orthanc"}) as settings:
        wrong = settings.model_copy(
            update={"pacs": settings.pacs.model_copy(update={"changes_url": settings.pacs.url})}
        )
        finding = {one.name: one for one in await check(wrong, None)}["pacs.changes_url"]
    assert finding.state is State.FAIL
    assert "status 404" in finding.text
    assert "not its DICOMweb root" in str(finding.hint)


@pytest.mark.parametrize(
    ("status", "text"), [(401, "pacs_credentials"), (404, "status 404"), (503, "pacs_busy")]
)
async def test_an_archive_that_refuses(
    ehr: ScriptedEhr, pacs: Pacs, status: int, text: str
) -> None:
    pacs.status = status
    findings = await found(ehr, pacs)
    assert findings["pacs.query"].state is State.FAIL
    assert text in findings["pacs.query"].text
    assert findings["pacs.studies"].text == "needs pacs.query"
    assert findings["pacs.dialect"] == skipped("pacs.dialect", "needs pacs.query")


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
    [([], {}, State.SKIP, "no study"),
     ([study("1.2.1")], {}, State.OK, "1 looked at"),
     ([study("1.2.1", None), study("1.2.2")], {}, State.OK, "1 without a PatientID"),
     ([study("1.2.1", None), study("1.2.2", None)], {}, State.FAIL, "PatientID"),
     ([study("1.2.1", issuer="HOSPITAL"), study("1.2.2")], ISSUERS, State.OK, "2 looked at"),
     ([study("1.2.1"), study("1.2.2")], ISSUERS, State.WARN, "issuer"),
     ([study("1.2.1", issuer="A"), study("1.2.2", issuer="B")], {}, State.WARN, "2 issuers"),
     ([study("1.2.1", issuer="A"), study("1.2.2")], {}, State.WARN,
      "1 issuers of patient IDs, or none"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2")], {}, State.WARN,
      "1 of 2 studies have an issuer that dcm4chee"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="HOSPITAL")], ISSUERS, State.WARN,
      "dcm4chee made up"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2")], COUNT_AS_NONE, State.OK, "2 looked at"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2")], COUNT_AS_NONE, State.OK,
      "1 with an issuer that counts as none"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="HOSPITAL")], ISSUERS | COUNT_AS_NONE,
      State.WARN,
      "1 of 2 studies have an issuer that dcm4chee made up"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="A")], COUNT_AS_NONE, State.WARN,
      "1 issuers")],
)  # fmt: skip
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
    ("url", "state"),
    [("https://imaging.example.org", State.OK), ("http://imaging.example.org", State.WARN),
     ("http://localhost:8080", State.WARN), ("https://imaging.example.org/fhir", State.WARN)],
)  # fmt: skip
async def test_the_public_url(ehr: ScriptedEhr, pacs: Pacs, url: str, state: State) -> None:
    assert (await found(ehr, pacs, server={"public_url": url}))["server.public_url"].state is state


async def test_a_patient_record_that_refuses_us(ehr: ScriptedEhr, pacs: Pacs) -> None:
    """``mapping: ehr``: our own access is tried with a Patient that nobody has."""
    mapping = {"patients": {"mapping": "ehr", "identifiers": [{"system": "urn:x"}]}}
    # ScriptedEhr: 404.
    assert (await found(ehr, pacs, **mapping))["patients.mapping"].state is State.OK


async def test_a_fixed_introspection_url_needs_no_discovery(ehr: ScriptedEhr, pacs: Pacs) -> None:
    ehr.configuration_status = 500
    async with served(ehr, pacs) as settings:
        url = settings.ehr.fhir_url.removesuffix("/fhir") + "/introspect"
        tokens = settings.tokens.model_copy(
            update={"introspection": IntrospectionSettings(url=url)}
        )
        findings = {
            one.name: one
            for one in await check(settings.model_copy(update={"tokens": tokens}), None)
        }
    assert findings["ehr.smart_configuration"].state is State.WARN
    assert findings["tokens.introspection"].state is State.OK


@pytest.mark.parametrize("issuer", [None, "https://issuer.example.org"])
async def test_an_issuer_that_nothing_names(pacs: Pacs, issuer: str | None) -> None:
    """Then ``iss`` is not compared: it is said, and how to mend it."""
    async with served(
        ScriptedEhr(answer={"active": False}, configuration_status=404),
        pacs,
        ehr={"issuer": issuer},
    ) as settings:
        url = settings.ehr.fhir_url.removesuffix("/fhir") + "/introspect"
        tokens = settings.tokens.model_copy(
            update={"introspection": IntrospectionSettings(url=url)}
        )
        findings = {
            one.name: one
            for one in await check(settings.model_copy(update={"tokens": tokens}), None)
        }
    finding = findings["ehr.smart_configuration"]
    assert (finding.state, finding.text) == (State.WARN, "discovery_unexpected_status (status 404)")
    assert (
        "iss in introspection answers is not compared: set ehr.issuer" in str(finding.hint)
    ) == (issuer is None)


@pytest.mark.parametrize("issuer", [None, "https://issuer.example.org"])
async def test_a_smart_configuration_without_an_issuer(
    ehr: ScriptedEhr, pacs: Pacs, issuer: str | None
) -> None:
    finding = (await found(ehr, pacs, ehr={"issuer": issuer}))["ehr.smart_configuration"]
    assert finding.state is State.WARN
    assert ("set ehr.issuer" in str(finding.hint)) == (issuer is None)


async def test_a_needed_issuer_that_nothing_names(ehr: ScriptedEhr, pacs: Pacs) -> None:
    tokens = {
        "validation": "jwt",
        "client": None,
        "audience": ["us"],
        "jwt": {"jwks_url": "http://127.0.0.1:1/jwks"},
    }
    finding = (await found(ehr, pacs, tokens=tokens))["ehr.smart_configuration"]
    assert (finding.state, str(finding.hint)[-15:]) == (State.FAIL, "set ehr.issuer.")


@pytest.mark.parametrize(
    ("reason", "hint"),
    [("pacs_warming", TOO_SLOW), ("pacs_timeout", TOO_SLOW), ("query_not_json", "as JSON")],
)  # fmt: skip
def test_what_a_slow_archive_needs(reason: str, hint: str) -> None:
    assert hint in hint_of_rows(Unavailable("", reason=reason))


@pytest.mark.parametrize(
    "asked", ["discovery", "introspection", "patient", "jwks", "group", "backend_token"]
)
def test_what_a_slow_ehr_needs(asked: str) -> None:
    assert "ehr.timeout_seconds" in slow_ehr(Unavailable("", reason=asked + "_timeout"), "else")
    assert slow_ehr(Unavailable("", reason=asked + "_unreachable"), "else") == "else"


async def test_what_a_server_writes_steers_no_terminal(ehr: ScriptedEhr, pacs: Pacs) -> None:
    finding = Finding("x", State.OK, "a\x1b]0;pwned\x07b")
    assert "\x1b" not in table([finding])


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
