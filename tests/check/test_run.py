"""``check`` as a whole: a sound site, the public URL, and texts of servers."""

import pytest

from sidecar.conformance.finding import Finding, State, table
from tests.check.scripted_site import Pacs, found
from tests.fakes.ehr import ScriptedEhr


async def test_fine(ehr: ScriptedEhr, pacs: Pacs) -> None:
    findings = await found(ehr, pacs)
    assert {name: one.state for name, one in findings.items()} == {
        "server.public_url": State.OK,
        "fhir.catalog": State.OK,
        "audit.sink": State.OK,
        "capabilities": State.OK,
        "ehr.smart_configuration": State.WARN,
        "tokens.introspection": State.OK,
        "tokens.jwt": State.OK,
        "patients.mapping": State.OK,
        "pacs.query": State.OK,
        "pacs.dialect": State.OK,
        "pacs.studies": State.OK,
        "pacs.counts": State.OK,
        "pacs.character_sets": State.OK,
        "pacs.changes_url": State.OK,
        "pacs.resources": State.WARN,
        "access.rules": State.OK,
        "access.clients": State.OK,
        "access.external": State.OK,
        "token": State.SKIP,
    }
    # ScriptedEhr names none.
    assert "authorization_endpoint" in findings["ehr.smart_configuration"].text


@pytest.mark.parametrize(
    ("url", "state", "hint"),
    [
        ("https://imaging.example.org", State.OK, "None"),
        ("http://imaging.example.org", State.WARN, "Tokens must travel encrypted"),
        ("http://localhost:8080", State.WARN, "Apps elsewhere"),
        ("https://example.org/imaging", State.OK, "None"),
        ("https://example.org/imaging/fhir", State.WARN, "/fhir and /wado-rs are added"),
        ("http://127.0.0.1:8080/imaging/fhir", State.WARN, "/fhir and /wado-rs are added"),
    ],
)
async def test_the_public_url(
    ehr: ScriptedEhr, pacs: Pacs, url: str, state: State, hint: str
) -> None:
    finding = (await found(ehr, pacs, server={"public_url": url}))["server.public_url"]
    assert finding.state is state
    assert str(finding.hint).startswith(hint)


async def test_what_a_server_writes_steers_no_terminal(ehr: ScriptedEhr, pacs: Pacs) -> None:
    finding = Finding("x", State.OK, "a\x1b]0;pwned\x07b")
    assert "\x1b" not in table([finding])
