"""Files, environment and secrets make one ``Settings``, or one clear line for each problem."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from sidecar.authorization.study_facts import SERIES_KEYWORDS, STUDY_KEYWORDS
from sidecar.settings.access import RuleSettings
from sidecar.settings.fhir import CatalogSettings
from sidecar.settings.upstream_auth import BasicAuth
from tests.settings.loading import Write, load, problems
from tests.tables.settings import MINIMUM
from tests.tables.settings_problems import PROBLEMS


def test_the_least_that_is_needed(write: Write) -> None:
    settings = load(write(MINIMUM))
    assert settings.pacs.url == "http://pacs.example.org/dicom-web"
    assert (settings.server.port, settings.server.admin_port, settings.patients.mapping) == (
        8080,
        9090,
        "direct",
    )


def test_later_files_override_key_by_key(write: Write) -> None:
    first = write(
        MINIMUM + "server: {port: 1, cors_origins: ['http://a', 'http://b']}\nlog: {level: DEBUG}\n"
    )
    second = write(
        "server: {port: 2, cors_origins: ['http://c']}\npacs: {dialect: orthanc}\n", "second.yaml"
    )
    settings = load(first, second)
    assert (settings.server.port, settings.server.cors_origins) == (2, ("http://c",))
    assert (settings.pacs.dialect, settings.pacs.url) == (
        "orthanc",
        "http://pacs.example.org/dicom-web",
    )
    assert settings.log.level == "DEBUG"
    assert load(second, first).server.port == 1


def test_an_empty_file_and_the_environment_are_enough(write: Write) -> None:
    settings = load(
        write(""),
        SIDECAR_EHR__FHIR_URL="http://ehr/fhir/",
        SIDECAR_TOKENS__CLIENT="{method: none}",
        SIDECAR_PACS__URL="http://pacs",
    )
    assert settings.ehr.fhir_url == "http://ehr/fhir"


def test_the_environment_overrides_files(write: Write) -> None:
    settings = load(
        write(MINIMUM + "server: {port: 1}\n"),
        write("ehr: {issuer: old}\n", "second.yaml"),
        SIDECAR_PACS__URL="http://other/dicom-web/",
        SIDECAR_PACS__AUTH__METHOD="basic",
        SIDECAR_PACS__AUTH__USERNAME="0123",
        SIDECAR_PACS__AUTH__PASSWORD="[true]",
        SIDECAR_SERVER__PORT="8081",
        SIDECAR_SERVER__CORS_ORIGINS='["http://a", http://b]',
        SIDECAR_PATIENTS__MAPPING="ehr",
        SIDECAR_PATIENTS__IDENTIFIERS="[{system: 'http://mrn', issuer: null}]",
        SIDECAR_FHIR__CONTAINED_ENDPOINT="true",
        SIDECAR_EHR__ISSUER="null",
        SIDECAR_PORT="tcp://10.0.0.1:8080",  # Kubernetes's, not ours
        PATH__X="not ours",
    )
    assert settings.pacs.url == "http://other/dicom-web"
    assert isinstance(settings.pacs.auth, BasicAuth)
    assert (settings.pacs.auth.username, settings.pacs.auth.secret()) == ("0123", "[true]")
    assert (settings.server.port, settings.server.cors_origins) == (8081, ("http://a", "http://b"))
    assert [(one.system, one.issuer) for one in settings.patients.identifiers] == [
        ("http://mrn", None)
    ]
    assert settings.fhir.contained_endpoint is True
    assert settings.ehr.issuer is None


@pytest.mark.parametrize(
    ("text", "line"),
    PROBLEMS,
)
def test_one_line_for_a_wrong_value(write: Write, text: str, line: str) -> None:
    (problem,) = problems(write(MINIMUM), write(text, "second.yaml"))
    assert problem.removeprefix("site.yaml + ").startswith(f"second.yaml: {line}")


def test_a_path_has_no_names_of_types(write: Write) -> None:
    """A claim is a text or a list of texts: what is wrong with either is a line."""
    text = "must be text, in quotes when it looks like a number or a date"
    for value, lines in {
        "[a, 1]": [f"scope: {text}", f"scope.1: {text}"],
        "{a: 1}": [f"scope: {text}", "scope: must be a list"],
    }.items():
        found = problems(write(MINIMUM), write(f"tokens: {{claims: {{scope: {value}}}}}", "b.yaml"))
        assert found == [f"b.yaml: tokens.claims.{line}" for line in lines]


@pytest.mark.parametrize("path", ["/tmp/catalog", str(CatalogSettings.file)])
@pytest.mark.parametrize("store", ["workers", "sqlite", "memory", "postgresql"])
def test_the_catalogs_file_is_for_sqlite(write: Write, store: str, path: str) -> None:
    """With several workers that is the default, and the file alone is enough.

    Whoever writes the default wants it kept, too.
    """
    file = write(MINIMUM + f"fhir: {{catalog: {{file: {path}}}}}")
    changes = {"SIDECAR_FHIR__CATALOG__STORE": store}
    if store == "workers":
        changes = {"SIDECAR_SERVER__WORKERS": "2"}
    if store == "postgresql":
        changes["SIDECAR_FHIR__CATALOG__DSN_FILE"] = str(write("host=db", "dsn"))
    if store in ("workers", "sqlite"):
        assert load(file, **changes).catalog_store() == "sqlite"
    else:
        (problem,) = problems(file, **changes)
        assert problem.endswith(
            ": fhir.catalog.file needs fhir.catalog.store: sqlite; set that, or leave file out"
        )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("pacs: {url: 'http://a'}\nlog: {}\npacs: {}", "line 3: pacs stands twice"),
        ("a: b: c", "line 1: is not YAML: mapping values are not allowed here"),
        ("pacs: [", "line 1: is not YAML: "),
        ("Zq7-hunter2-Xw", "must be a mapping of sections such as pacs and ehr"),
        ("- pacs", "must be a mapping of sections such as pacs and ehr"),
        (b"log: {level: \xff}", "is not UTF-8 text"),
        ("log: \0", "is not YAML: a character that is not allowed"),
        (
            "client_secret: *Zq7-hunter2-Xw",
            "line 1: aliases are not supported; quote a text that begins with *",
        ),
        ("client_secret: !Zq7-hunter2-Xw", "line 1: unknown tag; quote a text that begins with !"),
        ("client_secret: !Zq7-hunter2-Xw!x y", "line 1: is not YAML: found undefined tag"),
        ("? [pacs]\n: 1", "line 1: a key must be text"),
        ("yes: 1", "line 1: a key must be text"),
        ("log: {level: 2001-99-99}", "line 1: a value that is none of its type"),
        ("log: {level: " + "9" * 5_000 + "}", "line 1: a value that is none of its type"),
        ("[" * 5_000, "is nested too deeply"),
    ],
)
def test_one_line_for_a_file_that_cannot_be_read(
    write: Write, text: str | bytes, line: str
) -> None:
    (problem,) = problems(write(text))
    assert problem.startswith(f"site.yaml: {line}")


def test_off_is_off_without_quotes(write: Write) -> None:
    """YAML 1.1 reads it as false."""
    assert (
        load(write(MINIMUM), write("capabilities: {mode: off}", "second.yaml")).capabilities.mode
        == "off"
    )


def test_jwt_validation_needs_no_client(write: Write) -> None:
    files = (
        write(
            MINIMUM.replace(
                "tokens: {client: {method: none}}", "tokens: {validation: jwt, audience: [us]}"
            )
        ),
    )
    settings = load(*files)
    assert settings.tokens.client is None
    assert settings.tokens.jwt.algorithms == ("RS256", "RS384", "ES256", "ES384")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "validation: jwt",
            "validation by JWT needs audience: else an ID token would pass for an access token",
        ),
        (
            "validation: jwt_then_introspection",
            "validation by JWT needs audience: else an ID token would pass for an ",
        ),
        (
            "introspection: {signed: true}",
            "introspection.signed needs a client with a client_id: the answers are for",
        ),
    ],
)
def test_parts_of_tokens_that_need_each_other(write: Write, text: str, line: str) -> None:
    (problem,) = problems(write(MINIMUM), write(f"tokens: {{{text}}}", "second.yaml"))
    assert problem.startswith(f"site.yaml + second.yaml: tokens: {line}")


def test_introspection_needs_a_client(write: Write) -> None:
    lines = problems(
        write(MINIMUM.replace("tokens: {client: {method: none}}", "tokens: {audience: [us]}"))
    )
    assert lines == [
        "site.yaml: tokens: client is required: how we authenticate at the introspection endpoint"
    ]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "absent.yaml", tmp_path) == [
        "absent.yaml: cannot be read: No such file or directory",
        f"{tmp_path.name}: cannot be read: Is a directory",
    ]


def test_all_problems_at_once_each_with_its_source(write: Write) -> None:
    lines = problems(
        write("pacs: {verify_instances: soon}\nlogs: {}\n"),
        write("ehr: {fhir_url: nowhere}\n", "second.yaml"),
        SIDECAR_SERVER__PORT="-1",
        SIDECAR_PACS__DIALECT="orthanc",
    )
    assert sorted(line.split(": ")[0] + " " + line.split(": ")[1] for line in lines) == [
        "environment SIDECAR_SERVER__PORT server.port",
        "second.yaml ehr.fhir_url",
        "site.yaml + environment SIDECAR_PACS__DIALECT pacs.url",
        "site.yaml + second.yaml tokens",
        "site.yaml logs",
        "site.yaml pacs.verify_instances",
    ]


def test_a_key_with_control_characters_stays_on_one_line(write: Write) -> None:
    (problem,) = problems(write(MINIMUM + '"a\\nb\\e[31m": 1\n'))
    assert problem.startswith("site.yaml: a\\nb\\x1b[31m: unknown key")


def test_rules_may_name_what_is_described() -> None:
    """A keyword that could be configured and is never read would hide everything."""
    rule = TypeAdapter(RuleSettings).json_schema()["properties"]
    for name, known in (("study", STUDY_KEYWORDS), ("series", SERIES_KEYWORDS)):
        assert set(rule[name]["anyOf"][0]["propertyNames"]["enum"]) == set(known)
