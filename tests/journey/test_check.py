"""``check`` as the first thing that support asks for, in front of each archive."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from sidecar.check.names import FindingName
from tests.command import run
from tests.journey.world import LARGE_STUDY_PATIENT, World
from tests.sidecar_process import free_ports_in_a_row


def findings(
    world: World, *arguments: str, token: str | None = None
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the findings by their names."""
    done = run(
        "check",
        "--config",
        world.sidecar.file,
        "--json",
        *arguments,
        changes={} if token is None else {"SIDECAR_CHECK_TOKEN": token},
    )
    assert done.stderr == ""
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def test_everything_is_fine(world: World) -> None:
    """With a patient's token down to one instance (SIA-10, 20, 40, 42, 45); without one nobody is
    looked at.
    """
    code, found = findings(world, token=world.token("robin"))
    assert code == 0
    states = {name: one["state"] for name, one in found.items()}
    assert states.pop("server.public_url") == "warn"  # A loopback address.
    assert set(states.values()) == {"ok"}, found
    names = get_args(FindingName)
    assert list(found)[-7:] == [*names[names.index("token.validation") : -1]]
    code, found = findings(world)
    assert (code, found["token"]["state"]) == (0, "skip")


def test_what_an_app_meets_conforms(world: World) -> None:
    """``--conformance``: from outside, in front of each archive."""
    for patient in ("robin", LARGE_STUDY_PATIENT):
        token = world.token(patient)
        done = run(
            "check",
            "--conformance",
            world.sidecar.fhir,
            "--json",
            changes={"SIDECAR_CHECK_TOKEN": token},
        )
        problems = [one for one in json.loads(done.stdout)["findings"] if one["state"] == "fail"]
        assert (done.returncode, done.stderr, problems) == (0, "", [])


def test_the_product_is_recognized(world: World, request: pytest.FixtureRequest) -> None:
    _, found = findings(world)
    archive = request.node.callspec.params["world"].partition("-")[0]
    assert found["pacs.dialect"]["text"].startswith("generic" if archive == "embedded" else archive)


def test_nobody_is_named(world: World) -> None:
    """Support gets the output by mail."""
    token = world.token("robin")
    done = run(
        "check", "--config", world.sidecar.file, "--verbose", changes={"SIDECAR_CHECK_TOKEN": token}
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0
    assert token not in said
    own = world.of("robin")
    assert own
    for secret in {"Sample", *(one.patient_id for one in own), *(one.study for one in own)}:
        assert secret not in said


def test_a_token_that_is_not_active(world: World) -> None:
    code, found = findings(world, token="never-issued")
    assert code == 1
    assert found["token.validation"]["state"] == "fail"
    assert "not active" in found["token.validation"]["text"]


def test_a_token_without_the_scope(world: World) -> None:
    code, found = findings(world, token=world.token("robin", "patient/Patient.r"))
    assert code == 1
    assert found["token.search"]["text"].startswith("403")


def test_the_demo_can_be_checked_from_beside(tmp_path: Path) -> None:
    """``demo --write-config``: what a newcomer tries first."""
    port, file = free_ports_in_a_row(4), tmp_path / "demo.yaml"
    command = [
        sys.executable,
        "-m",
        "sidecar",
        "demo",
        "--port",
        str(port),
        "--write-config",
        str(file),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        said: list[str] = []
        while not any(line.startswith("Ctrl-C") for line in said):
            said.append(demo.stdout.readline())
        token = said[
            next(at for at, line in enumerate(said) if "good for an hour" in line) + 1
        ].strip()
        done = run("check", "--config", file, changes={"SIDECAR_CHECK_TOKEN": token})
        demo.send_signal(signal.SIGINT)
    assert (done.returncode, demo.returncode) == (0, 0), done.stdout
    assert "token.refusal" in done.stdout
