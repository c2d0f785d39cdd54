"""``check --conformance`` as a command, in front of the real sidecar: all is well there, and nobody
is named.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from sidecar import __version__, cli
from sidecar.check import from_outside
from sidecar.conformance.finding import Finding, State
from sidecar.conformance.levels import TEXTS, Levels
from sidecar.conformance.reading import patient_in
from sidecar.conformance.requirements import BEYOND_A_CLIENT, REQUIREMENTS
from sidecar.conformance.run import CHECKS, ServerUnderTest
from sidecar.conformance.whole_run import BEYOND
from sidecar.demo.people import WITH_TEST_FILES
from sidecar.demo.samples import fill
from tests.capability_keys import token_bound
from tests.command import run
from tests.journey.world import World, make_world

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pydicom's."""
    directory = tmp_path_factory.mktemp("images")
    fill(directory)
    return directory


@pytest.fixture(scope="module")
def world(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The sidecar between the demo's EHR and archive."""
    with make_world(tmp_path_factory.mktemp("world"), files, None) as made:
        yield made


def checked(
    world: World, token: str | None, *arguments: str, changes: Mapping[str, str] | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings."""
    changes = {**(changes or {}), **({} if token is None else {"SIDECAR_CHECK_TOKEN": token})}
    done = run("check", "--conformance", world.sidecar.fhir, "--json", *arguments, changes=changes)
    assert done.stderr == ""
    assert token is None or token not in done.stdout
    return done.returncode, json.loads(done.stdout)["findings"]


def number_of(finding: dict[str, Any]) -> str:
    """The requirement's: ``SIA-20``."""
    return str(finding["name"].partition(" ")[0])


def problems(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with a problem or a remark."""
    return [finding for finding in findings if finding["state"] in ("fail", "warn")]


@pytest.mark.parametrize(
    "patient",
    [
        # The journey has this one in front of each archive.
        pytest.param(one.id, marks=pytest.mark.exhaustive if one.id == "robin" else ())
        for one in WITH_TEST_FILES
    ],
)
def test_the_sidecar_conforms(world: World, patient: str) -> None:
    code, findings = checked(world, world.token(patient))
    assert (code, problems(findings)) == (0, [])
    assert {int(number_of(finding).removeprefix("SIA-")) for finding in findings} == set(
        REQUIREMENTS
    )
    assert sum(one["state"] == "ok" for one in findings) > 60


def test_with_capability_urls_it_conforms(files: Path, tmp_path: Path) -> None:
    """SIA-50..54: what cannot be looked at otherwise is looked at then."""
    changes = {"capabilities": token_bound(tmp_path)}
    with make_world(tmp_path, files, None, changes) as world:
        code, findings = checked(world, world.token("robin"))
    assert (code, problems(findings)) == (0, [])
    states = {finding["name"]: finding["state"] for finding in findings}
    assert states["SIA-51 a changed capability URL"] == "ok"
    assert states["SIA-50 a capability URL without its token"] == "ok"
    assert states["SIA-54 referrers and caches of such addresses"] == "ok"


@pytest.mark.parametrize("extension", [True, False])
def test_by_the_older_guide_it_conforms_with_the_extension(
    files: Path, tmp_path: Path, extension: bool
) -> None:
    changes = {"compat": {"requires_access_token": extension}}
    with make_world(tmp_path, files, None, changes) as world:
        code, findings = checked(world, world.token("robin"), "--guide", "2026-08")
    broken = [] if extension else ["SIA-31 the extension requires-access-token"]
    assert [finding["name"] for finding in problems(findings)] == broken
    assert code == len(broken)


def test_with_all_tokens_and_files_it_conforms(
    files: Path, tmp_path: Path, artefacts: Path
) -> None:
    """What a single token leaves open is looked at then; no token is in any output."""
    clients = {"app": {"patients": ["robin"]}}
    changes = {"access": {"backend_services": True, "clients": clients}}
    page, suite = artefacts / "conformance-sidecar.html", artefacts / "conformance-sidecar.xml"
    with make_world(tmp_path, files, None, changes) as world:
        tokens = {
            "SIDECAR_CHECK_OTHER_TOKEN": world.token("peter"),
            "SIDECAR_CHECK_BACKEND_TOKEN": world.token(None, "system/ImagingStudy.rs"),
            "SIDECAR_CHECK_EXPIRED_TOKEN": world.token("robin", lifetime_seconds=-1),
        }
        token = world.token("robin")
        written = ("--html", str(page), "--junit", str(suite))
        code, findings = checked(world, token, *written, changes=tokens)
    states = {finding["name"]: finding["state"] for finding in findings}
    for name in (
        "SIA-10 an expired token",
        "SIA-12 images with the other patient's token",
        "SIA-13 a Backend Services client",
        "SIA-22 the other token's patient",
        "SIA-45 the other token's patient's images",
        "SIA-55 the way back after a refusal",
    ):
        assert states[name] == "ok", findings
    assert problems(findings) == []
    assert code == 0
    cases = list(ElementTree.parse(suite).iter("testcase"))
    assert len(cases) == len(findings)
    for file in (page, suite):
        assert all(one not in file.read_text() for one in (token, *tokens.values()))
        assert f"smart-imaging-sidecar {__version__}" in file.read_text()


def test_a_terminal_is_asked_for_the_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent, and only where the token does not tell."""
    given: list[str | None] = []

    async def conformance(server: ServerUnderTest) -> list[Finding]:
        given.append(server.patient)
        return [Finding("SIA-3 metadata", State.OK, "fine")]

    monkeypatch.setattr("sidecar.conformance.run.conformance", conformance)
    monkeypatch.setattr(cli, "configure_logs", lambda level: None)  # Of this process.
    for token, terminal in (("opaque", True), ("opaque", False), (jwt("told"), True)):
        stdin = SimpleNamespace(isatty=lambda terminal=terminal: terminal)
        monkeypatch.setattr(from_outside, "sys", SimpleNamespace(stdin=stdin))
        arguments = ["check", "--conformance", "http://x/fhir", "--token", token]
        result = CliRunner().invoke(cli.main, arguments, input="typed\n")
        assert result.exit_code == 0, result.output
        assert ("FHIR id of the token's patient" in result.stderr) is (given[-1] == "typed")
    assert given == ["typed", None, None]


def jwt(patient: str) -> str:
    """A token that tells its patient."""
    claims = base64.urlsafe_b64encode(json.dumps({"patient": patient}).encode())
    return f"e30.{claims.decode().rstrip('=')}.x"


@pytest.mark.parametrize("written", ["robin", "Patient/robin", "https://ehr/fhir/Patient/robin"])
def test_a_patient_may_be_written_as_a_reference(world: World, written: str) -> None:
    """No server is accused of another patient's studies for it."""
    assert patient_in(jwt(written)) == "robin"
    assert patient_in(jwt("a b")) is None
    code, findings = checked(world, world.token("robin"), "--patient", written)
    assert (code, problems(findings)) == (0, [])


def test_a_file_that_cannot_be_written(world: World) -> None:
    done = run("check", "--conformance", world.sidecar.fhir, "--html", "/nowhere/page.html")
    assert done.returncode == 2
    assert done.stderr == "/nowhere/page.html: No such file or directory\n"
    assert "SIA-3" in done.stdout


def test_nobody_is_named(world: World) -> None:
    token = world.token("robin")
    done = run("check", "--conformance", world.sidecar.fhir + "/", "--token", token)
    assert (done.returncode, done.stderr) == (0, "")
    own = world.of("robin")
    for secret in {
        token,
        "robin",
        "Sample",
        *(one.patient_id for one in own),
        *(one.study for one in own),
    }:
        assert secret not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert done.stdout.splitlines()[-1].endswith(" skip")


def test_without_a_token_what_is_open_is_looked_at(world: World) -> None:
    code, findings = checked(world, None)
    assert (code, problems(findings)) == (0, [])
    assert {finding["state"] for finding in findings if number_of(finding) == "SIA-24"} == {"skip"}


def test_a_token_that_is_not_active(world: World) -> None:
    """The problem is told once; what builds on it is not tested."""
    code, findings = checked(world, "never-issued-by-anybody")
    assert code == 1
    assert [finding["name"] for finding in problems(findings)] == [
        "SIA-20 a search for the patient's studies"
    ]
    assert problems(findings)[0]["text"].startswith("401")


def test_the_wrong_patient(world: World) -> None:
    """``--patient`` of somebody else is refused by the server, not believed by us."""
    code, findings = checked(world, world.token("robin"), "--patient", "peter")
    assert code == 1
    assert problems(findings)[0]["text"].startswith("403")
    assert problems(findings)[0]["hint"].startswith("Is --patient the token's patient")


def test_something_else_answers(world: World) -> None:
    """The EHR is a FHIR server, and none for images."""
    done = run("check", "--conformance", world.ehr_url + "/fhir", "--token", world.token("robin"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAIL  SIA-20 a search for the patient's studies (SHALL)\n" in done.stdout
    assert "-> GET [base]/ImagingStudy" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--conformance", "ftp://x/fhir"),
        ("--conformance", "x"),
        ("--conformance", "http://x/fhir?a=b"),
        ("--conformance", "http://u:p@x/fhir"),
        ("--conformance", "http://x", "--config", "x.yaml"),
        ("--config", "x.yaml", "--patient", "p"),
        ("--config", "x.yaml", "--guide", "2026-08"),
        ("--config", "x.yaml", "--html", "x.html"),
        ("--conformance", "http://x", "--guide", "2025-01"),
        ("--conformance", "http://x", "--origin", "x"),
        ("--conformance", "http://x", "--token", "a secret\r\nX: y"),
        ("--conformance", "http://x", "--other-token", "a secret"),
        ("--conformance", "http://x", "--patient", "a secret"),
        ("--conformance", "http://x", "--other-patient", "Group/1"),
        # Right servers would look as if they took an expired token, or a service's.
        ("--conformance", "http://x", "--token", "t", "--expired-token", "t"),
        ("--conformance", "http://x", "--token", "t", "--backend-token", "t"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = run("check", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr
    assert "a secret" not in done.stderr


def test_the_levels_are_those_of_the_page() -> None:
    """docs/conformance-kit.md tells what each check demands, and by which text."""
    page = (ROOT / "docs/conformance-kit.md").read_text()
    rows = re.findall(r"^\| SIA-(\d+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    made = sorted((c for c in CHECKS if c not in BEYOND), key=lambda check: check.number)
    assert rows == [(str(check.number), check.title, levels(check.levels)) for check in made]
    assert len({check.title for check in made}) == len(made)
    for guide, text in TEXTS.items():
        assert f"`{guide}`: {text}" in page


def levels(declared: Levels) -> str:
    if isinstance(declared, str):
        return str(declared)
    return ", ".join(f"{level} ({guide})" for guide, level in declared.items())


def test_every_requirement_has_a_text() -> None:
    table = (ROOT / "docs/conformance.md").read_text()
    numbers = {int(number) for number in re.findall(r"^\| SIA-(\d+) \|", table, re.MULTILINE)}
    assert len(numbers) > 30
    assert set(REQUIREMENTS) >= numbers
    assert set(BEYOND_A_CLIENT) <= set(REQUIREMENTS)
