"""Checks of the EHR: discovery, keys, introspection, Patients."""

from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from sidecar.check.outcome import hint_of, skipped
from sidecar.check.run import check
from sidecar.common.errors import Unavailable
from sidecar.conformance.finding import Finding, State
from sidecar.settings.tokens import IntrospectionSettings
from tests.check.scripted_site import Pacs, found, served
from tests.fakes.ehr import ScriptedEhr
from tests.sidecar_process import free_port


async def test_an_introspection_that_says_yes_to_everything(ehr: ScriptedEhr, pacs: Pacs) -> None:
    ehr.answer = ScriptedEhr().answer
    finding = (await found(ehr, pacs))["tokens.introspection"]
    assert finding.state is State.FAIL
    assert "Do not serve" in str(finding.hint)


@pytest.mark.parametrize(
    ("status", "answer", "text"),
    [
        (401, {}, "introspection_bad_credentials (status 401)"),
        (
            401,
            {"error": "invalid_client", "error_description": "the-secret"},
            "introspection_bad_credentials (status 401, invalid_client)",
        ),
        (
            400,
            {"error": "unsupported_token_type"},
            "introspection_unexpected_status (status 400, unsupported_token_type)",
        ),
        (500, {}, "introspection_unexpected_status (status 500)"),
        (200, "<html>", "introspection_not_json"),
        (200, [], "introspection_"),
        (404, {}, "status 404"),
    ],
)
async def test_an_introspection_that_does_not_work(
    ehr: ScriptedEhr, pacs: Pacs, status: int, answer: Any, text: str
) -> None:
    ehr.status, ehr.answer = status, answer
    findings = await found(ehr, pacs)
    assert findings["tokens.introspection"].state is State.FAIL
    assert text in findings["tokens.introspection"].text
    assert "the-secret" not in str(findings)
    assert findings["patients.mapping"] == Finding(
        "patients.mapping", *skipped("needs tokens.introspection")
    )
    assert findings["pacs.studies"].state is State.OK  # The other side is looked at all the same.


async def test_no_discovery(ehr: ScriptedEhr, pacs: Pacs) -> None:
    ehr.configuration_status = 500
    finding = (await found(ehr, pacs))["ehr.smart_configuration"]
    assert (finding.state, finding.text) == (State.FAIL, "discovery_unexpected_status (status 500)")
    assert "/fhir/.well-known/smart-configuration" in str(finding.hint)
    assert "ca_file" not in str(finding.hint), "it was reached"


async def test_an_ehr_that_is_not_reached(ehr: ScriptedEhr, pacs: Pacs) -> None:
    url = f"http://127.0.0.1:{free_port()}/fhir"
    finding = (await found(ehr, pacs, ehr={"fhir_url": url}))["ehr.smart_configuration"]
    assert (finding.state, finding.text) == (State.FAIL, "discovery_unreachable (ECONNREFUSED)")
    assert "reachable from here? ehr.ca_file" in str(finding.hint)


async def test_a_patient_record_that_refuses_us(ehr: ScriptedEhr, pacs: Pacs) -> None:
    """``mapping: ehr``: our own access is tried with a Patient that nobody has."""
    mapping = {"patients": {"mapping": "ehr", "identifiers": [{"system": "urn:x"}]}}
    # ScriptedEhr: 404.
    assert (await found(ehr, pacs, **mapping))["patients.mapping"].state is State.OK


@pytest.mark.parametrize("is_on", [True, False])
async def test_an_ehr_whose_patients_cannot_be_searched(
    ehr: ScriptedEhr, pacs: Pacs, is_on: bool
) -> None:
    """Backend Services clients read by it, apps do not."""
    ehr.search_status = 403
    sections: dict[str, Any] = {
        "patients": {"mapping": "ehr", "identifiers": [{"system": "urn:x"}]},
        "access": {"backend_services": is_on},
    }
    finding = (await found(ehr, pacs, **sections))["patients.mapping"]
    assert finding.state is (State.WARN if is_on else State.OK)
    assert ("system/Patient.rs" in str(finding.hint)) is is_on


async def test_a_fixed_introspection_url_needs_no_discovery(ehr: ScriptedEhr, pacs: Pacs) -> None:
    ehr.configuration_status = 500
    async with served(ehr, pacs) as settings:
        url = settings.ehr.fhir_url.removesuffix("/fhir") + "/introspect"
        tokens = replace(settings.tokens, introspection=IntrospectionSettings(url=url))
        findings = {
            finding.name: finding for finding in await check(replace(settings, tokens=tokens), None)
        }
    assert findings["ehr.smart_configuration"].state is State.WARN
    assert findings["tokens.introspection"].state is State.OK


class WithoutDiscovery(ScriptedEhr):
    """Its smart-configuration is a 404."""

    async def _configuration(self, request: web.Request) -> web.Response:
        return web.Response(status=404)


@pytest.mark.parametrize("issuer", [None, "https://issuer.example.org"])
async def test_an_issuer_that_nothing_names(pacs: Pacs, issuer: str | None) -> None:
    """Then ``iss`` is not compared: it is said, and how to mend it."""
    async with served(
        WithoutDiscovery(answer={"active": False}), pacs, ehr={"issuer": issuer}
    ) as settings:
        url = settings.ehr.fhir_url.removesuffix("/fhir") + "/introspect"
        tokens = replace(settings.tokens, introspection=IntrospectionSettings(url=url))
        findings = {
            finding.name: finding for finding in await check(replace(settings, tokens=tokens), None)
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


async def test_another_issuer_than_the_ehr_names(ehr: ScriptedEhr, pacs: Pacs) -> None:
    """Both are shown: they may differ by a letter."""
    names = ("introspection_endpoint", "token_endpoint", "authorization_endpoint")
    ehr.configuration = dict.fromkeys(names, "http://as") | {"issuer": "http://as/realms/x"}
    issuer = {"issuer": "https://as/realms/x"}
    finding = (await found(ehr, pacs, ehr=issuer))["ehr.smart_configuration"]
    assert (finding.state, finding.text) == (State.WARN, "its issuer is http://as/realms/x")
    assert str(finding.hint).startswith("ehr.issuer is https://as/realms/x: ")


@pytest.mark.parametrize("said", [{}, {"grant_types_supported": ["authorization_code"]}])
async def test_an_ehr_that_does_not_announce_backend_services(
    ehr: ScriptedEhr, pacs: Pacs, said: dict[str, Any]
) -> None:
    """SIA-2: clients look for it there; with the lists it is fine, and without the mode as well."""
    endpoints = ("introspection_endpoint", "token_endpoint", "authorization_endpoint")
    known = dict.fromkeys(endpoints, "http://ehr.example.org") | {"issuer": "http://x"}
    whole = {
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    }
    for configuration, is_on, state in (
        (known | said, True, State.WARN),
        (known | said, False, State.OK),
        (known | whole, True, State.OK),
    ):
        ehr.configuration = configuration
        access = {"backend_services": is_on, "clients": {"app": {"patients": ["p1"]}}}
        finding = (await found(ehr, pacs, access=access if is_on else {}))[
            "ehr.smart_configuration"
        ]
        assert finding.state is state
        text = "no client_credentials in grant_types_supported and no private_key_jwt in "
        assert (text in finding.text) is (state is State.WARN)


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
    "asked", ["discovery", "introspection", "patient", "jwks", "group", "backend_token"]
)
def test_what_a_slow_or_absent_ehr_needs(asked: str) -> None:
    assert "limits.ehr_timeout_seconds" in hint_of(
        Unavailable("", reason=asked + "_timeout"), "else"
    )
    hint = hint_of(Unavailable("", reason=asked + "_unreachable"), "else")
    assert ("is its URL right" in hint) is (asked != "discovery"), "discovery has one of its own"
    assert hint_of(Unavailable("", reason=asked + "_not_json"), "else") == "else"


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("tokens.introspection", {"introspection": {"url": "http://127.0.0.1:9/introspect"}}),
        (
            "tokens.jwt",
            {
                "validation": "jwt",
                "client": None,
                "audience": ["us"],
                "jwt": {"jwks_url": "http://127.0.0.1:9/jwks"},
            },
        ),
    ],
)
async def test_a_url_at_which_nothing_listens(
    ehr: ScriptedEhr, pacs: Pacs, name: str, sections: dict[str, Any]
) -> None:
    """It is not what the server should answer, or name, that is wrong."""
    issuer = {"issuer": "https://as.example.org"}
    finding = (await found(ehr, pacs, ehr=issuer, tokens=sections))[name]
    assert (finding.state, "_unreachable (ECONNREFUSED)" in finding.text) == (State.FAIL, True)
    assert str(finding.hint).startswith("It is not reached")
