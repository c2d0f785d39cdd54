"""What ``check`` says of rules and clients: a rule on what the archive never tells would hide
everything.
"""

from pathlib import Path
from typing import Any

import pytest

from sidecar.conformance.finding import State
from tests.check.scripted_site import Pacs, found
from tests.common.peer import Peer, Reply
from tests.fakes.ehr import ScriptedEhr
from tests.sidecar_process import free_port


def rule(**conditions: Any) -> dict[str, Any]:
    """A rule that excludes."""
    return {"name": "r", "effect": "exclude"} | conditions


@pytest.mark.parametrize(
    ("rules", "state", "text"),
    [
        ([], State.OK, "none: nothing is left out"),
        (
            [rule(study={"StudyID": ["x"]})],
            State.OK,
            "1 rule; the archive has their attributes",
        ),
        (
            [rule(series={"Modality": ["SR"]}), rule(study={"ModalitiesInStudy": ["SR"]})],
            State.OK,
            "2 rules; ",
        ),
        (
            [rule(study={"AccessionNumber": ["x"]})],
            State.WARN,
            "has a value: AccessionNumber 1 of 2",
        ),
        (
            [rule(study={"InstitutionName": ["x"]})],
            State.WARN,
            "has a value: InstitutionName 0 of 2",
        ),
        (
            [rule(study={"StudyID": ["x"]}, series={"ProtocolName": ["x"]})],
            State.WARN,
            "ProtocolName 0 of 2",
        ),
        ([rule()], State.WARN, "the rule 'r' has no condition: it applies to every study"),
        (
            [rule(effect="hold", hours=72)],
            State.WARN,
            "the rule 'r' has no condition: it applies to every study",
        ),
        ([rule(effect="show")], State.OK, "no rule leaves anything out"),
    ],
)
async def test_rules(rules: list[dict[str, Any]], state: State, text: str) -> None:
    pacs = Pacs()
    pacs.rows[0]["00080050"] = {"vr": "SH", "Value": ["A1"]}
    for row in pacs.rows:
        row["00200010"] = {"vr": "SH", "Value": ["1"]}
    finding = (await found(ScriptedEhr(answer={"active": False}), pacs, access={"rules": rules}))[
        "access.rules"
    ]
    assert finding.state is state
    assert text in finding.text


async def test_rules_without_a_study_to_look_at() -> None:
    pacs = Pacs()
    pacs.rows = []
    access = {"rules": [rule(study={"InstitutionName": ["x"]})]}
    findings = await found(ScriptedEhr(answer={"active": False}), pacs, access=access)
    assert findings["access.rules"].state is State.SKIP


async def test_clients(tmp_path: Path) -> None:
    file = tmp_path / "patients"
    file.write_text("# nobody yet\n")
    for clients, state, text in (
        ({}, State.WARN, "no client has patients"),
        ({"a": {"patients": ["p1"]}}, State.OK, "1, each with patients"),
        (
            {"a": {"patients": ["p1"]}, "b": {"patients_file": str(file)}},
            State.WARN,
            "1 of 2 may see nobody",
        ),
        ({"a": {"groups": ["g1"]}}, State.WARN, "1 of 1 may see nobody"),
    ):
        access = {"backend_services": True, "clients": clients}
        finding = (await found(ScriptedEhr(answer={"active": False}), Pacs(), access=access))[
            "access.clients"
        ]
        assert finding.state is state
        assert text in finding.text


@pytest.mark.parametrize(
    ("reply", "state", "text"),
    [
        (Reply({"result": False}), State.OK, "it answers"),
        (Reply({"result": {"allow": False}}), State.OK, "it answers"),
        (Reply({"result": True}), State.WARN, "allows"),
        (Reply({}), State.FAIL, "policy_undefined"),
        (Reply(status=404), State.FAIL, "policy_unexpected_status (status 404)"),
    ],
)
async def test_the_external_policy(peer: Peer, reply: Reply, state: State, text: str) -> None:
    peer.say(reply)
    access = {"external": {"url": peer.url}}
    finding = (await found(ScriptedEhr(answer={"active": False}), Pacs(), access=access))[
        "access.external"
    ]
    assert finding.state is state
    assert text in finding.text


async def test_an_external_policy_that_is_not_there() -> None:
    access = {"external": {"url": f"http://127.0.0.1:{free_port()}/v1/data/imaging"}}
    finding = (await found(ScriptedEhr(answer={"active": False}), Pacs(), access=access))[
        "access.external"
    ]
    assert finding.state is State.FAIL
    assert "access.external.url" in str(finding.hint)


async def test_capability_keys_that_everybody_can_read(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one " + "1" * 64)
    section = {"mode": "token_bound", "keys_file": str(keys)}
    for mode, state in ((0o600, State.OK), (0o640, State.OK), (0o644, State.WARN)):
        keys.chmod(mode)
        findings = await found(ScriptedEhr(answer={"active": False}), Pacs(), capabilities=section)
        assert findings["capabilities"].state is state
