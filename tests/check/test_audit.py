"""Checks of the audit trail: file, spool, repository."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.audit.spool import REJECTED, Spool, segments
from sidecar.conformance.finding import Finding, State
from sidecar.server.listener import listen
from tests.audit.profiles import breaches
from tests.check.scripted_site import Pacs, found
from tests.fakes.ehr import ScriptedEhr


async def test_the_audit_sink_is_looked_at_and_not_touched(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path
) -> None:
    """A file that check made would be root's, and lock the service out."""
    file = tmp_path / "audit.jsonl"
    finding = (await found(ehr, pacs, audit={"sink": "file", "file": str(file)}))["audit.sink"]
    assert (finding.state, file.exists()) == (State.OK, False)
    absent = {"sink": "file", "file": str(tmp_path / "absent" / "audit.jsonl")}
    assert (await found(ehr, pacs, audit=absent))["audit.sink"].state is State.FAIL


def statement(*interactions: str, system: str = "batch", **more: Any) -> dict[str, Any]:
    """A CapabilityStatement that offers this for AuditEvent."""
    event = {"type": "AuditEvent", "interaction": [{"code": code} for code in interactions]} | more
    return {"rest": [{"mode": "server", "resource": [event], "interaction": [{"code": system}]}]}


REPOSITORIES: list[tuple[int, Any, dict[str, Any], State, str]] = [
    (200, statement("create"), {}, State.OK, ""),
    (200, statement("read"), {}, State.WARN, "create for AuditEvent"),
    (200, statement("create"), {"interaction": "update"}, State.WARN, "update for AuditEvent"),
    (200, statement("create", system="search-system"), {}, State.WARN, "batch_size: 1"),
    (200, statement("create", system="search-system"), {"batch_size": 1}, State.OK, ""),
    (200, statement("create", referencePolicy=["local"]), {}, State.OK, ""),
    *(
        (200, made, {"patient_reference": how}, state, says)
        for how, policy, says in (
            ("absolute", "local", "allows external references"),
            ("relative", "enforced", "has the patients"),
        )
        for made, state, says in (
            (statement("create", referencePolicy=["literal", policy]), State.WARN, says),
            (statement("create") | {"software": {"name": "HAPI FHIR Server"}}, State.WARN, says),
            (statement("create", referencePolicy=["literal"]), State.OK, ""),
        )
    ),
    (200, statement("create", referencePolicy=1), {}, State.WARN, "anything"),
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
    # A server that fails is asked once more: does it speak http at all?
    assert asked[:1] == [("GET", "/fhir/metadata")]
    assert asked[1:] == ([("GET", "/fhir")] if state is State.FAIL else [])
    assert not (tmp_path / "spool").exists()


def issue(severity: str, code: str) -> dict[str, Any]:
    return {"issue": [{"severity": severity, "code": code}]}


VALIDATION: list[tuple[int, Any, Any, State, str, int]] = [
    (200, issue("warning", "processing"), None, State.OK, "fhir", 2),
    (200, issue("error", "invariant"), issue("error", "value"), State.WARN, "value", 2),
    (422, issue("fatal", "p1"), issue("fatal", "p1"), State.WARN, "unknown", 2),
    (412, issue("error", "value"), issue("warning", "value"), State.OK, "BALP's profiles", 4),
    (404, issue("error", "not-supported"), None, State.OK, "fhir", 2),
    (501, "no", None, State.OK, "fhir", 2),
]
"""Status, and answer to an event with a profile and to one without -> finding, requests."""


@pytest.mark.parametrize(
    ("status", "with_profile", "without", "state", "says", "requests"), VALIDATION
)
async def test_an_audit_repository_that_validates(
    ehr: ScriptedEhr,
    pacs: Pacs,
    tmp_path: Path,
    status: int,
    with_profile: Any,
    without: Any,
    state: State,
    says: str,
    requests: int,
) -> None:
    """It is sent events that it does not keep, of the profiles."""
    sent: list[Any] = []
    operation = [{"name": "validate"}]

    async def metadata(request: web.Request) -> web.Response:
        return web.json_response(statement("create", operation=operation))

    async def validate(request: web.Request) -> web.Response:
        sent.append(json.loads(await request.read()))
        return web.json_response(with_profile if "meta" in sent[-1] else without, status=status)

    app = web.Application()
    app.router.add_get("/fhir/metadata", metadata)
    app.router.add_post("/fhir/AuditEvent/$validate", validate)
    async with listen(app, "127.0.0.1", 0) as port:
        audit = {
            "sink": "fhir",
            "repository": {"url": f"http://127.0.0.1:{port}/fhir"},
            "spool": {"folder": str(tmp_path / "spool")},
        }
        finding = (await found(ehr, pacs, audit=audit))["audit.repository"]
    assert (finding.state, says in f"{finding}") == (state, True)
    assert len(sent) == requests
    assert not any(map(breaches, (one for one in sent if "meta" in one)))


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
    ("what", "state", "says"),
    [
        ("file", State.FAIL, "is not a folder"),
        ("shared", State.WARN, "by others"),
        ("mine", State.OK, "spool"),
        ("link", State.FAIL, "is not a folder"),
        ("dangling", State.FAIL, "is not a folder"),
        ("none", State.OK, "spool"),
        ("nowhere", State.FAIL, "does not exist"),
    ],
)
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
    spool = Spool(folder, max_bytes=2**26)
    audit: dict[str, Any] = {
        "sink": "fhir",
        "repository": {"url": "http://127.0.0.1:9/fhir"},
        "spool": {"folder": str(folder), "max_bytes": 2**26},
    }

    async def finding() -> Finding:
        return (await found(ehr, pacs, audit=audit))["audit.sink"]

    spool.write(b"{}\n")
    assert (await finding()).state is State.OK
    (segment,) = map(folder.joinpath, segments(folder))
    spool.close()
    begun = time.time_ns() - 1_800 * 10**9
    late_segment = segment.rename(folder / f"{begun:020d}-{segment.name.partition('-')[2]}")
    late = await finding()
    assert (late.state, "30 minutes" in late.text) == (State.WARN, True)
    (folder / "progress.json").write_text(
        json.dumps({"positions": {late_segment.name: 3}, "retries": []})
    )
    assert (await finding()).state is State.OK  # All of it is delivered.
    (folder / REJECTED).touch()
    os.truncate(folder / REJECTED, 2**26 - 2**20)
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
