"""The command as an operator meets it: help, exit codes, one line for what is wrong,
no traceback.
"""

import json
import re
import socket
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from sidecar import __version__, cli
from sidecar.settings.capabilities import keys_in
from sidecar.settings.document import Settings
from tests.command import run, serving
from tests.schemas import misfits
from tests.sidecar_process import free_port, free_ports_in_a_row

SECRET = "Zq7-hunter2-Xw"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration whose EHR and PACS are not there; the secret is a direct value."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    file = tmp_path / "site.yaml"
    file.write_text(
        f"ehr: {{fhir_url: '{nowhere}/fhir'}}\n"
        "tokens: {client: {method: client_secret_post, client_id: us, "
        f"client_secret: {SECRET}}}}}\n"
        f"pacs: {{url: '{nowhere}/dicom-web', auth: {{method: basic, username: us, "
        f"password: {SECRET}}}}}\n"
        "server: {host: 127.0.0.1, port: 0, admin_host: 127.0.0.1, admin_port: 0}\n"
    )
    return file


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command's path, groups among them."""
    found = [path]
    for name, command in group.commands.items():
        here = (*path, name)
        found += commands(command, here) if isinstance(command, click.Group) else [here]
    return found


def one_line(result: Any) -> str:
    """The only line on standard error of a run that ended with 2."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return str(line)


def test_the_commands_are_those_of_the_documents() -> None:
    assert commands(cli.main) == [
        (),
        ("serve",),
        ("check",),
        ("demo",),
        ("config",),
        ("config", "schema"),
        ("config", "show"),
        ("config", "capability-key"),
        ("config", "ehr-snippet"),
    ]


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("path", commands(cli.main), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], flag: str) -> None:
    result = CliRunner().invoke(cli.main, [*path, flag])
    assert result.exit_code == 0
    usage, _, rest = result.output.partition("\n\n")
    assert usage.startswith("Usage: ")
    assert len(rest.partition("\n\n")[0].split()) >= 6
    assert "..." not in rest.partition("Commands:")[2]


def test_version_and_help_of_the_real_command() -> None:
    version, usage = run("--version"), run("--help")
    assert (version.returncode, version.stdout) == (
        0,
        f"smart-imaging-sidecar, version {__version__}\n",
    )
    assert usage.returncode == 0
    assert "serve" in usage.stdout


@pytest.mark.parametrize(
    "arguments",
    [["srve"], ["serve"], ["serve", "--confg", "x"], ["config", "show"], ["config"], []],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


# config
# ---------------------------------------------------------------------------------------------


def test_check_takes_one_of_two() -> None:
    both = run("check", "--config", "x.yaml", "--conformance", "http://localhost/fhir")
    assert (
        both.returncode,
        "Give one of --config and --conformance, not both." in both.stderr,
    ) == (2, True)


def test_the_schema_describes_the_document() -> None:
    """Every object is closed and describes each key; what a file must have is required."""
    schema = json.loads(run("config", "schema").stdout)
    assert set(schema["required"]) == {"ehr", "tokens", "pacs"}
    assert list(schema["properties"]) == [field.name for field in fields(Settings)]
    for model in schema["$defs"].values():
        assert (model["type"], model["additionalProperties"]) == ("object", False)
        for name, field in model["properties"].items():
            assert "description" in field or "$ref" in field, name
            assert not ("default" in field and name in model.get("required", ())), name


def test_the_schema_accepts_what_the_model_accepts(site: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(run("config", "schema").stdout)
    shown = json.loads(run("config", "show", "--config", site).stdout)
    wrong: list[dict[str, Any]] = [
        {"pac": {}},
        {"log": {"level": "LOUD"}},
        {"server": {"port": 65_536}},
        {"server": {"port": "x"}},
        {"server": {"drain_seconds": 0}},
        {"tokens": {"client": {"method": "basic"}}},
        {"pacs": {}},
        {"fhir": None},
    ]
    files = [tmp_path / f"{number}.json" for number in range(len(wrong) + 1)]
    for file, change in zip(files, [{}, *wrong], strict=True):
        file.write_text(json.dumps(shown | change))
    assert misfits(schema, *files) == set(files[1:])


def test_show_fills_in_defaults_and_masks_secrets(site: Path) -> None:
    result = run("config", "show", "--config", site, changes={"SIDECAR_LOG__LEVEL": "DEBUG"})
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert shown["server"]["drain_seconds"] == 30
    assert shown["log"]["level"] == "DEBUG"
    assert shown["tokens"]["client"]["client_secret"] == "**********"
    assert shown["pacs"]["auth"]["password"] == "**********"
    assert SECRET not in result.stdout


def test_show_explains_a_key(site: Path) -> None:
    usage = run("config", "show", "--help").stdout
    (example,) = re.findall("Example: smart-imaging-sidecar (.*)", usage)
    assert run(*example.split()).stdout.startswith("limits.pacs_connections\n  Maximum ")
    result = run("config", "show", "--config", site, "--explain", "pacs.url")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(rf"value: http\S+ \({site}:\d+\)", result.stdout)
    unknown = run("config", "show", "--explain", "pacs.urll")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("pacs.urll: unknown key; did you mean pacs.url")


def test_a_key_is_explained_though_the_configuration_is_wrong(site: Path, tmp_path: Path) -> None:
    """Without values, and the problems behind it: who mends them asks what keys mean."""
    absent = tmp_path / "absent.yaml"
    for changes, file, problem in (
        ({"SIDECAR_SERVER__PORT": SECRET}, site, "server.port: "),
        ({}, absent, f"{absent}: cannot be read"),
    ):
        result = run("config", "show", "--config", file, "--explain", "pacs.url", changes=changes)
        assert result.returncode == 2
        assert result.stdout.startswith("pacs.url\n  ")
        assert "value:" not in result.stdout
        (line,) = result.stderr.splitlines()
        assert problem in line
        unknown = run("config", "show", "--config", file, "--explain", "urll", changes=changes)
        assert (unknown.returncode, unknown.stdout) == (2, "")


def test_problems_are_lines_and_exit_code_2(site: Path) -> None:
    changes = {"SIDECAR_PACS__AUTH__USERNAME": "", "SIDECAR_LOG__LEVEL": SECRET}
    for command in (("config", "show"), ("serve",)):
        result = run(*command, "--config", site, changes=changes)
        assert (result.returncode, result.stdout) == (2, "")
        assert sorted(line.split(": ")[:2] for line in result.stderr.splitlines()) == [
            ["environment SIDECAR_LOG__LEVEL", "log.level"],
            ["environment SIDECAR_PACS__AUTH__USERNAME", "pacs.auth.username"],
        ]
        assert SECRET not in result.stderr


def test_the_json_of_check_says_it_too(site: Path, tmp_path: Path) -> None:
    """A program that reads it needs no other form for this."""
    result = run("check", "--config", site, "--json", changes={"SIDECAR_LOG__LEVEL": "LOUD"})
    said = json.loads(result.stdout)
    assert (result.returncode, said["ok"]) == (2, False)
    assert said["problems"] == result.stderr.splitlines()
    assert "log.level" in said["problems"][0]


def test_a_configuration_that_may_not_be_read(site: Path) -> None:
    """One line, as for one that is not there."""
    folder = one_line(run("serve", "--config", site.parent))
    assert folder.startswith(f"{site.parent}: ")
    assert "Usage" not in folder


# serve
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PORT", "ADMIN_PORT"])
def test_a_port_that_is_taken(site: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = one_line(
            run("serve", "--config", site, changes={f"SIDECAR_SERVER__{name}": str(port)})
        )
    assert line.startswith(("server.port: ", "server.admin_port: "))
    assert f"127.0.0.1:{port}" in line
    assert line.endswith("address already in use")


def test_an_audit_file_in_no_folder(site: Path, tmp_path: Path) -> None:
    changes = {"SIDECAR_AUDIT__SINK": "file", "SIDECAR_AUDIT__FILE": f"{tmp_path}/no/audit.jsonl"}
    line = one_line(run("serve", "--config", site, changes=changes))
    assert line.startswith(
        f"cannot start: audit.file {tmp_path}/no/audit.jsonl: No such file or directory"
    )


def test_a_host_that_is_not_here(site: Path) -> None:
    line = one_line(
        run("serve", "--config", site, changes={"SIDECAR_SERVER__HOST": "host.invalid"})
    )
    assert line.startswith("server.port: host.invalid:0: ")


def backend_services(key_file: Path) -> dict[str, str]:
    """The environment for reading Patient with a key."""
    return {
        "SIDECAR_PATIENTS__MAPPING": "ehr",
        "SIDECAR_PATIENTS__IDENTIFIERS": "[{system: 'http://hospital.example.org/mrn'}]",
        "SIDECAR_PATIENTS__CLIENT": "{method: backend_services, client_id: us, "
        f"private_key_file: '{key_file}'}}",
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (SECRET.encode(), "not a private key for RS384"),
        (b'{"kty": "RSA"}', "not a private key for RS384"),
        (b"", "not a private key for RS384"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_private_key_that_cannot_be_used(
    site: Path, tmp_path: Path, content: bytes | None, why: str
) -> None:
    key_file = tmp_path / "key.pem"
    if content is not None:
        key_file.write_bytes(content)
    line = one_line(run("serve", "--config", site, changes=backend_services(key_file)))
    assert line == f"environment SIDECAR_PATIENTS__CLIENT: patients.client.private_key_file: {why}"


def test_a_secret_file_that_cannot_be_read(site: Path, tmp_path: Path) -> None:
    absent = f"{{client_secret: null, client_secret_file: '{tmp_path}/absent'}}"
    changes = {"SIDECAR_TOKENS__CLIENT": absent}
    line = one_line(run("serve", "--config", site, changes=changes))
    name = "environment SIDECAR_TOKENS__CLIENT: tokens.client.client_secret_file"
    assert line == f"{name}: cannot be read: No such file or directory"


def test_sigterm_ends_serve_with_0(site: Path, tmp_path: Path) -> None:
    with serving(tmp_path, site) as running:
        assert running.end() == 0
    lines = [json.loads(line) for line in (tmp_path / "serve.log").read_text().splitlines()]
    assert [line["message"] for line in lines if line["logger"] == "sidecar.server.supervisor"] == [
        "serving",
        "draining",
    ]


@pytest.mark.parametrize(
    ("offset", "name"), [(1, "the EHR (--port + 1)"), (3, "metrics (--port + 3)")]
)
def test_a_port_of_the_demo_that_is_taken(tmp_path: Path, offset: int, name: str) -> None:
    """It says so before it fills the archive."""
    port = free_ports_in_a_row(4)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + offset))
        taken.listen()
        result = run("demo", "--port", str(port), "--data", tmp_path / "images")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.strip() == f"{name}: 127.0.0.1:{port + offset}: address already in use"
    assert not (tmp_path / "images").exists()


def test_a_folder_that_demo_cannot_make(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    line = one_line(run("demo", "--port", str(free_port()), "--data", blocked / "images"))
    assert line == f"{blocked}/images: Not a directory"


def test_what_the_ehr_says_of_us(site: Path) -> None:
    """SIA-1, 2: our FHIR base as an associated endpoint, with our capabilities; what these need."""
    changes = {
        "SIDECAR_SERVER__PUBLIC_URL": "https://us.example.org",
        "SIDECAR_ACCESS__BACKEND_SERVICES": "true",
    }
    done = run("config", "ehr-snippet", "--config", site, changes=changes)
    snippet = json.loads(done.stdout)
    assert snippet["grant_types_supported"] == ["authorization_code", "client_credentials"]
    assert snippet["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert "system/ImagingStudy.rs" in snippet["scopes_supported"]
    (endpoint,) = snippet["associated_endpoints"]
    assert endpoint["url"] == "https://us.example.org/fhir"
    assert "smart-imaging-access" in endpoint["capabilities"]
    assert (
        "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch" in endpoint["capabilities"]
    )


def test_a_capability_key_is_one_that_can_be_used(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.main, ["config", "capability-key"])
    assert done.exit_code == 0
    (tmp_path / "keys").write_text(done.output)
    ((key_id, secret),) = keys_in(tmp_path / "keys")
    assert len(secret) == 32
    assert done.output != CliRunner().invoke(cli.main, ["config", "capability-key"]).output
    assert key_id.isalnum()
