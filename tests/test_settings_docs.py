"""docs/configuration.md has the models' keys, types and defaults; README's example loads."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from click.testing import CliRunner

from sidecar import cli
from sidecar.settings.document import Settings
from sidecar.settings.load import load_settings
from sidecar.settings.reference import all_keys
from sidecar.settings.section import Section
from tests.settings_tables import DOCUMENT, differences, put_into, tables

ROOT = Path(__file__).parent.parent


def test_the_tables_are_the_models() -> None:
    assert differences(DOCUMENT.read_text()) == [], (
        "python -m tests.settings_tables writes them anew"
    )


def test_a_missing_extra_or_different_row_is_found() -> None:
    """The test above can fail."""
    text = DOCUMENT.read_text()
    row = next(
        line for line in text.splitlines(keepends=True) if line.startswith("| `server.port`")
    )
    for changed in (
        text.replace(row, ""),
        text.replace(row, row + "| `server.workers` | integer | `1` | |\n"),
        text.replace(row, row.replace("8080", "8081")),
        text.replace(row, row.replace("integer", "text")),
        text.replace("<!-- log -->\n", ""),
        text + "\n| `audit.sink` | text | `stdout` | |\n",
        text + "\n<!-- audit -->\n| `audit.sink` | text | `stdout` | |\n",
    ):
        assert changed != text
        assert differences(changed)
    assert put_into(text.replace(row, "")) == text


def _classes(annotation: Any) -> list[type]:
    """Every class that an annotation names."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [kind for argument in get_args(annotation) for kind in _classes(argument)]


def keys_of(model: type[Section], path: str = "") -> Iterator[str]:
    """Every key of a document that holds no mapping, by the models themselves."""
    annotations = get_type_hints(model)
    for name in (field.name for field in fields(model)):  # type: ignore[arg-type]
        annotation = annotations[name]
        below = [one for one in _classes(annotation) if issubclass(one, Section)]
        kind = str(annotation)
        many = "[]" if kind.startswith("tuple[") else ".<name>" if kind.startswith("dict[") else ""
        if not below:
            yield f"{path}{name}"
        for one in below:
            yield from keys_of(one, f"{path}{name}{many}.")


def test_every_key_of_the_models_is_in_a_table() -> None:
    """The tables are made by walking the JSON Schema, which must lose nothing on the way."""
    written = re.findall(r"^\| `([a-z0-9_.<>\[\]]+)`", "".join(tables().values()), re.MULTILINE)
    variants = {
        "tokens.client",
        "tokens.claims.patient",
        "patients.client",
        "patients.identifiers",
        "pacs.auth",
        "audit.repository.auth",
    } | {
        "access.clients",
        "access.rules",
    }
    assert set(keys_of(Settings)) == set(written) - variants


def test_every_number_names_its_unit_and_bounds() -> None:
    """The type has them, and the description names the unit where people read it."""
    for key in all_keys():
        for kind in re.findall(r"(?:integer|number)\b.*", key.kind):
            form = re.match(r"(?:integer|number) (?:over )?[\d,]+ to [\d,]+ \(([\w ]+)\)", kind)
            assert form is not None, key.name
            assert form[1].split()[-1].lower() in key.description.lower(), key.name


def test_each_limit_says_what_happens_beyond_it() -> None:
    limits = [key for key in all_keys() if key.path[0] == "limits"]
    assert limits
    for key in limits:
        assert key.kind.startswith(("integer ", "number ")), key.name
        assert re.search(r"\. Beyond: \S.*\.", key.description), key.name


def test_the_least_configuration_of_the_readme_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    document = yaml.safe_load(block)
    secret = tmp_path / "client_secret"
    secret.write_text("only for this test\n")
    assert document["tokens"]["client"]["client_secret_file"] == "/run/secrets/client_secret"
    file = tmp_path / "config.yaml"
    file.write_text(block.replace("/run/secrets/client_secret", str(secret)))
    settings = load_settings([file], {})
    assert settings.pacs.dialect == "orthanc"


def test_the_explanations_of_the_document_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line with a $ is run, beside README's example; below it is what it prints."""
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "client_secret").write_text("only for this test\n")
    (tmp_path / "site.yaml").write_text(example.replace("/run/secrets/", f"{tmp_path}/"))
    monkeypatch.chdir(tmp_path)
    section = DOCUMENT.read_text().partition("## What a key means\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    commands = re.findall(r"^\$ (.*)\n([^$]*)", block, re.MULTILINE)
    assert len(commands) == 2
    for line, printed in commands:
        variable, _, command = line.rpartition("smart-imaging-sidecar ")
        environment = dict([variable.strip().split("=")]) if variable else {}
        result = CliRunner().invoke(cli.main, command.split(), env=environment)
        assert (result.exit_code, result.output) == (0, printed)


def test_the_environment_of_the_document_loads(tmp_path: Path) -> None:
    """Its lines are shell: what stands in single quotes is the value."""
    block = next(
        one
        for one in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        if "SIDECAR_" in one
    )
    environment = {
        name: value.strip("'")
        for name, _, value in (line.partition("=") for line in block.splitlines())
    }
    secret = tmp_path / "client_secret"
    secret.write_text("only for this test\n")
    environment["SIDECAR_TOKENS__CLIENT__CLIENT_SECRET_FILE"] = str(secret)
    file = tmp_path / "rest.yaml"
    file.write_text(
        "ehr: {fhir_url: 'http://ehr/fhir'}\npatients: {mapping: ehr}\n"
        "tokens: {client: {method: client_secret_basic, client_id: us}}\n"
    )
    settings = load_settings([file], environment)
    assert settings.server.cors_origins == ("https://viewer.example.org",)
    assert settings.patients.identifiers[0].system == "http://hospital.example.org/mrn"
