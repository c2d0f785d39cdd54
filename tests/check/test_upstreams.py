"""What ``check`` says of upstreams that are not as they should be: each fault has its line and a
way out.
"""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.audit.spool import Spool, segments
from sidecar.bootstrap.build import build
from sidecar.check.character_sets import TOO_SLOW, character_sets, hint_of_rows
from sidecar.check.finding import skipped, slow_ehr
from sidecar.check.run import check
from sidecar.check.upstreams import Check, counts, studies
from sidecar.common.errors import Unavailable
from sidecar.conformance.finding import Finding, State, table
from sidecar.server.listener import listen
from sidecar.settings.tokens import IntrospectionSettings
from tests.certificates import certificate, server_context
from tests.check.checked import Pacs, found, served, study
from tests.fakes.ehr import ScriptedEhr
from tests.telemetry.collector import Collector


async def test_fine(ehr: ScriptedEhr, pacs: Pacs) -> None:
    findings = await found(ehr, pacs)
    assert {name: one.state for name, one in findings.items()} == {
        "server.public_url": State.OK, "audit.sink": State.OK, "capabilities": State.OK,
        "ehr.smart_configuration": State.WARN, "tokens.introspection": State.OK, "tokens.jwt": State.OK,
        "patients.mapping": State.OK, "pacs.query": State.OK, "pacs.dialect": State.OK, "pacs.studies": State.OK,
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
    [(401, {}, "introspection_bad_credentials"), (500, {}, "introspection_unexpected_status (status 500)"),
     (200, "<html>", "introspection_not_json"), (200, [], "introspection_"), (404, {}, "status 404")],
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
     ([study("1.2.1", issuer="A"), study("1.2.2")], {}, State.WARN, "1 issuers of patient IDs, or none"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2")], {}, State.WARN, "1 of 2 studies have an issuer that dcm4chee"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="HOSPITAL")], ISSUERS, State.WARN, "dcm4chee made up"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2")], COUNT_AS_NONE, State.OK, "2 looked at"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2")], COUNT_AS_NONE, State.OK,
      "1 with an issuer that counts as none"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="HOSPITAL")], ISSUERS | COUNT_AS_NONE, State.WARN,
      "1 of 2 studies have an issuer that dcm4chee made up"),
     ([study("1.2.1", issuer=MADE_UP), study("1.2.2", issuer="A")], COUNT_AS_NONE, State.WARN, "1 issuers")],
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


async def test_the_audit_sink_is_looked_at_and_not_touched(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path
) -> None:
    """A file that check made would be root's, and lock the service out."""
    file = tmp_path / "audit.jsonl"
    finding = (await found(ehr, pacs, audit={"sink": "file", "file": str(file)}))["audit.sink"]
    assert (finding.state, file.exists()) == (State.OK, False)
    absent = {"sink": "file", "file": str(tmp_path / "absent" / "audit.jsonl")}
    assert (await found(ehr, pacs, audit=absent))["audit.sink"].state is State.FAIL


async def test_what_a_server_writes_steers_no_terminal(ehr: ScriptedEhr, pacs: Pacs) -> None:
    finding = Finding("x", State.OK, "a\x1b]0;pwned\x07b")
    assert "\x1b" not in table([finding])


def statement(*interactions: str, system: str = "batch") -> dict[str, Any]:
    """A CapabilityStatement that offers this for AuditEvent."""
    event = {"type": "AuditEvent", "interaction": [{"code": code} for code in interactions]}
    return {"rest": [{"mode": "server", "resource": [event], "interaction": [{"code": system}]}]}


REPOSITORIES: list[tuple[int, Any, dict[str, Any], State, str]] = [
    (200, statement("create"), {}, State.OK, ""),
    (200, statement("read"), {}, State.WARN, "create for AuditEvent"),
    (200, statement("create"), {"interaction": "update"}, State.WARN, "update for AuditEvent"),
    (200, statement("create", system="search-system"), {}, State.WARN, "batch_size: 1"),
    (200, statement("create", system="search-system"), {"batch_size": 1}, State.OK, ""),
    (200, {"rest": []}, {}, State.WARN, "anything"),
    (200, [], {}, State.WARN, "anything"),
    (401, {}, {}, State.FAIL, "401"),
]


@pytest.mark.parametrize(("status", "body", "how", "state", "says"), REPOSITORIES)
async def test_the_audit_repository(
    ehr: ScriptedEhr,
    pacs: Pacs,
    tmp_path: Path,
    status: int,
    body: Any,
    how: dict[str, Any],
    state: State,
    says: str,
) -> None:
    """It is asked what it offers, and told nothing."""
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path))
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with listen(app, "127.0.0.1", 0) as port:
        repository = {"url": f"http://127.0.0.1:{port}/fhir"} | how
        audit = {
            "sink": "fhir",
            "repository": repository,
            "spool": {"folder": str(tmp_path / "spool")},
        }
        finding = (await found(ehr, pacs, audit=audit))["audit.repository"]
    assert finding.state is state
    assert says in f"{finding}"
    assert asked == [("GET", "/fhir/metadata")]
    assert not (tmp_path / "spool").exists()


async def test_an_audit_repository_that_is_not_there(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path
) -> None:
    audit = {
        "sink": "fhir",
        "repository": {"url": "http://127.0.0.1:9/fhir"},
        "spool": {"folder": str(tmp_path)},
    }
    findings = await found(ehr, pacs, audit=audit)
    assert findings["audit.sink"].state is State.OK
    assert findings["audit.repository"].state is State.FAIL


@pytest.mark.parametrize(
    ("status", "state", "says"),
    [
        (200, State.OK, "/v1/traces"),
        (404, State.FAIL, "4318"),
        (401, State.FAIL, "authorization_file"),
    ],
)
async def test_the_collector_of_spans(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path, status: int, state: State, says: str
) -> None:
    """An empty message, with the credential."""
    secret = tmp_path / "secret"
    secret.write_text("Bearer collector-secret")
    async with Collector(status=status).serve() as collector:
        tracing = {"endpoint": collector.endpoint, "authorization_file": str(secret)}
        finding = (await found(ehr, pacs, tracing=tracing))["tracing.endpoint"]
    assert (finding.state, collector.headers["authorization"]) == (state, "Bearer collector-secret")
    assert says in f"{finding}"
    assert "collector-secret" not in f"{finding}"
    assert collector.spans() == []


async def test_a_collector_that_is_not_there(ehr: ScriptedEhr, pacs: Pacs) -> None:
    finding = (await found(ehr, pacs, tracing={"endpoint": "http://127.0.0.1:9/v1/traces"}))[
        "tracing.endpoint"
    ]
    assert finding.state is State.FAIL
    assert "tracing.endpoint" not in await found(ehr, pacs)


@pytest.mark.parametrize(
    ("what", "state", "says"),
    [
        ("file", State.FAIL, "is not a folder"), ("shared", State.WARN, "by others"), ("mine", State.OK, "spool"),
        ("link", State.FAIL, "is not a folder"), ("dangling", State.FAIL, "is not a folder"),
        ("none", State.OK, "spool"), ("nowhere", State.FAIL, "does not exist"),
    ],
)  # fmt: skip
async def test_the_folder_of_the_spool(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path, what: str, state: State, says: str
) -> None:
    folder = tmp_path / "spool"
    if what == "file":
        folder.touch()
    elif what in ("shared", "mine"):
        folder.mkdir()
        folder.chmod(0o777 if what == "shared" else 0o700)
    elif what == "link":
        folder.symlink_to(tmp_path / "file")
        (tmp_path / "file").touch()
    elif what == "dangling":
        folder.symlink_to(tmp_path / "nowhere")
    elif what == "nowhere":
        folder = tmp_path / "no" / "spool"
    audit = {
        "sink": "fhir",
        "repository": {"url": "http://127.0.0.1:9/fhir"},
        "spool": {"folder": str(folder)},
    }
    finding = (await found(ehr, pacs, audit=audit))["audit.sink"]
    assert finding.state is state
    assert says in f"{finding}"


async def test_a_spool_that_is_full_or_waits_for_long(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path
) -> None:
    """As serve would have it: full is 503 for everybody."""
    folder = tmp_path / "spool"
    spool = Spool(folder, max_bytes=2**20)
    audit: dict[str, Any] = {
        "sink": "fhir", "repository": {"url": "http://127.0.0.1:9/fhir"},
        "spool": {"folder": str(folder), "max_bytes": 2**20},
    }  # fmt: skip

    async def finding() -> Finding:
        return (await found(ehr, pacs, audit=audit))["audit.sink"]

    spool.write(b"{}\n")
    assert (await finding()).state is State.OK
    (segment,) = segments(folder)
    spool.close()
    begun = time.time_ns() - 1_800 * 10**9
    late_segment = segment.rename(folder / f"{begun:020d}-{segment.name.partition('-')[2]}")
    late = await finding()
    assert (late.state, "30 minutes" in late.text) == (State.WARN, True)
    (folder / "positions.json").write_text(json.dumps({late_segment.name: 3}))
    assert (await finding()).state is State.OK  # All of it is delivered.
    with contextlib.suppress(OSError):
        while True:
            spool.write(b"x" * 999 + b"\n")
    full = await finding()
    assert (full.state, "nothing is answered" in full.text) == (State.FAIL, True)
    audit["when_full"] = "drop_oldest"
    assert (await finding()).state is not State.FAIL


@pytest.mark.parametrize("sink", ["file", "fhir"])
@pytest.mark.parametrize("what", ["bytes", "files"])
async def test_a_full_disk(
    ehr: ScriptedEhr,
    pacs: Pacs,
    tmp_path: Path,
    sink: str,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = os.statvfs_result(
        (4_096, 4_096, 10**6, 10**6, 0 if what == "bytes" else 10**6, 10**6, 9, 0, 0, 255)
    )
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    audit: dict[str, Any] = {"sink": "file", "file": str(tmp_path / "audit.jsonl")}
    if sink == "fhir":
        audit = {
            "sink": "fhir",
            "repository": {"url": "http://127.0.0.1:9/fhir"},
            "spool": {"folder": str(tmp_path)},
        }
    finding = (await found(ehr, pacs, audit=audit))["audit.sink"]
    assert (finding.state, "disk is full" in finding.text) == (State.FAIL, True)


async def test_a_certificate_that_ends_soon(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    """One hour, as our own here."""
    files = certificate(tmp_path, "us")
    client = {
        "method": "tls_client_auth", "client_id": "us", "certificate_file": str(files[0]),
        "private_key_file": str(files[1]),
    }  # fmt: skip
    finding = (await found(ehr, pacs, tokens={"client": client}))["certificate.client"]
    assert finding.state is State.WARN
    assert "renewed" in str(finding.hint)


async def test_an_archive_whose_certificate_is_not_trusted(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path
) -> None:
    """Something answers there: not "nothing does"."""
    context = server_context(certificate(tmp_path, "server"))
    async with await asyncio.start_server(
        lambda reader, writer: None, "127.0.0.1", 0, ssl=context
    ) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/dicom-web"
        finding = (await found(ehr, pacs, pacs={"url": url}))["pacs.query"]
    assert finding.state is State.FAIL
    assert "pacs.ca_file" in str(finding.hint)
    assert "Nothing answers" not in str(finding.hint)


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
    """Orthanc names that of its DefaultEncoding; of any archive it is counted what cannot be known."""
    info = {"orthanc": {"Name": "Orthanc"}}.get(dialect)
    async with served(ehr, pacs, pacs={"dialect": dialect}) as settings, build(settings) as sidecar:
        pacs.rows, pacs.info = rows, info
        finding = await character_sets(settings, sidecar)
    assert (finding.name, finding.state) == ("pacs.character_sets", state)
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
    assert findings["pacs.studies"] == skipped("pacs.studies", "needs pacs.character_sets")
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
