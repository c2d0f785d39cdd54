"""Files, environment and secrets make one ``Settings``, or one clear line for each problem."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.authorization.study_facts import SERIES_KEYWORDS, STUDY_KEYWORDS
from sidecar.settings.access import RuleSettings
from sidecar.settings.document import Settings
from sidecar.settings.load import ConfigurationError, load_settings
from sidecar.settings.upstream_auth import BackendServicesClient, BasicAuth, SecretClient
from tests.tables.settings import MINIMUM, SECRET, SECTIONS

WITH_SECRET = "tokens: {client: {method: client_secret_basic, client_id: us}}\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes, name: str = "site.yaml") -> Path:
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def load(*files: Path, **environment: str) -> Settings:
    return load_settings(files, environment)


def problems(*files: Path, **environment: str) -> list[str]:
    """The lines, with directories left out; each is one printable line and shows no secret."""
    with pytest.raises(ConfigurationError) as refused:
        load_settings(files, environment)
    assert str(refused.value).splitlines() == refused.value.problems
    assert SECRET not in str(refused.value)
    lines = refused.value.problems
    for file in files:
        lines = [line.replace(f"{file.parent}/", "") for line in lines]
    return lines


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
    assert (settings.server.port, settings.server.cors_origins) == (2, ["http://c"])
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
    assert (settings.server.port, settings.server.cors_origins) == (8081, ["http://a", "http://b"])
    assert [(one.system, one.issuer) for one in settings.patients.identifiers] == [
        ("http://mrn", None)
    ]
    assert settings.fhir.contained_endpoint is True
    assert settings.ehr.issuer is None


@pytest.mark.parametrize("value", ["null", "true", "12345", "{a: b}", "[x", " padded "])
def test_a_secret_in_the_environment_is_the_text_itself(write: Write, value: str) -> None:
    settings = load(
        write(MINIMUM),
        write(WITH_SECRET, "second.yaml"),
        SIDECAR_TOKENS__CLIENT__CLIENT_SECRET=value,
    )
    assert isinstance(settings.tokens.client, SecretClient)
    assert settings.tokens.client.secret() == value


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_file_holds_one_line(write: Write, ending: str) -> None:
    secret = write(f" {SECRET} {ending}", "secret")
    client = load(
        write(MINIMUM),
        write(WITH_SECRET, "second.yaml"),
        SIDECAR_TOKENS__CLIENT__CLIENT_SECRET_FILE=str(secret),
    ).tokens.client
    assert isinstance(client, SecretClient)
    assert client.secret() == f" {SECRET} "


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"Zq7-hunter2-Xw\nZq7-hunter2-Xw\n", "must be one line without control characters"),
        (b"Zq7-hunter2-Xw\xff", "is not UTF-8 text"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_an_unusable_secret_file(
    write: Write, tmp_path: Path, content: bytes | None, why: str
) -> None:
    secret = tmp_path / "absent" if content is None else write(content, "secret")
    files = (write(MINIMUM), write(WITH_SECRET, "second.yaml"))
    name = "SIDECAR_TOKENS__CLIENT__CLIENT_SECRET_FILE"
    assert problems(*files, **{name: str(secret)}) == [
        f"environment {name}: tokens.client.client_secret_file: {why}"
    ]


@pytest.mark.parametrize(("path", "section", "name"), SECTIONS)
def test_exactly_one_of_a_secret_and_its_file(
    write: Write, path: str, section: dict[str, str], name: str
) -> None:
    secret = write(SECRET, "secret")
    outer, inner = path.split(".")

    def document(**secrets: str) -> tuple[Path, Path]:
        return write(MINIMUM), write(
            yaml.safe_dump({outer: {inner: section | secrets}}), "second.yaml"
        )

    for secrets in ({name: SECRET}, {f"{name}_file": str(secret)}):
        settings = load(*document(**secrets))
        assert getattr(getattr(settings, outer), inner).secret() == SECRET
        assert SECRET not in settings.model_dump_json() + repr(settings)
    line = f"{path}: needs exactly one of {name} and {name}_file"
    for secrets in ({}, {name: SECRET, f"{name}_file": str(secret)}):
        (problem,) = problems(*document(**secrets))
        assert problem.partition("second.yaml: ")[2] == line
    assert problems(*document(**{name: ""})) == [f"second.yaml: {path}.{name}: is empty"]


def test_a_file_can_be_taken_back_for_a_value(write: Write, tmp_path: Path) -> None:
    files = (
        write(MINIMUM),
        write(WITH_SECRET.replace("us}", f"us, client_secret_file: {tmp_path}/absent}}"), "b.yaml"),
    )
    taken_back = {
        "SIDECAR_TOKENS__CLIENT__CLIENT_SECRET": SECRET,
        "SIDECAR_TOKENS__CLIENT__CLIENT_SECRET_FILE": "null",
    }
    client = load(*files, **taken_back).tokens.client
    assert isinstance(client, SecretClient)
    assert client.secret() == SECRET


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "pacs: {urll: x}",
            "pacs.urll: unknown key; did you mean url? (known here: auth, ca_file, ",
        ),
        (
            "pac: {}",
            (
                "pac: unknown key; did you mean pacs? (known here: access, audit, capabilities, "
                "compat, "
            ),
        ),
        (
            "tokens: {client: {client_id: x}}",
            "tokens.client.client_id: unknown key (known here: method)",
        ),
        (
            "patients: {identifiers: [{sistem: x, system: y}], mapping: ehr}",
            "patients.identifiers.0.sistem: unknown",
        ),
        (
            "pacs: {url: 'http://us:Zq7-hunter2-Xw@pacs/x'}",
            "pacs.url: must have no user, query or fragment",
        ),
        (
            "server: {cors_origins: ['*', 'https://a/']}",
            "server.cors_origins.1: must be * or scheme://host[:port]",
        ),
        ("server: {port: soon}", "server.port: must be a valid integer"),
        ("server: {port: yes}", "server.port: must be a number"),
        ("server: {port: 65536}", "server.port: must be less than or equal to 65535"),
        ("pacs: {timeout_seconds: .inf}", "pacs.timeout_seconds: must be"),
        ("pacs: {timeout_seconds: 0}", "pacs.timeout_seconds: must be greater than 0"),
        ("pacs: {dialect: othanc}", "pacs.dialect: must be 'generic', 'orthanc' or 'dcm4chee'"),
        (
            "pacs: {auth: {method: Zq7-hunter2-Xw}}",
            "pacs.auth.method: must be one of 'none', 'basic', 'bearer'",
        ),
        ("pacs: {auth: {username: us}}", "pacs.auth.method: is required"),
        ("pacs: {auth: Zq7-hunter2-Xw}", "pacs.auth: must be a mapping"),
        ("fhir:", "fhir: must be a mapping"),
        (
            "ehr: {issuer: 1}",
            "ehr.issuer: must be text, in quotes when it looks like a number or a date",
        ),
        ("server: {cors_origins: '*'}", "server.cors_origins: must be a list"),
        (
            "fhir: {timezone: Mars/Olympus}",
            "fhir.timezone: is no IANA time zone such as Europe/Berlin",
        ),
        ("fhir: {timezone: Europe}", "fhir.timezone: is no IANA time zone such as Europe/Berlin"),
        ("pacs: {ca_file: /nowhere}", "pacs.ca_file: cannot be read: No such file or directory"),
        (
            "pacs: {auth: {method: basic, username: 'a:b', password: x}}",
            "pacs.auth.username: must have no colon",
        ),
        (
            "fhir: {catalog: {store: sqlite}}",
            "fhir.catalog: store sqlite needs file, and file needs store sqlite",
        ),
        ("fhir: {catalog: {store: postgresql}}", "fhir.catalog: store postgresql needs dsn_file"),
        ("audit: {sink: file}", "audit: sink file needs file, and file needs sink file"),
        ("audit: {file: audit.jsonl}", "audit: sink file needs file, and file needs sink file"),
        ("audit: {sink: fhir}", "audit: sink fhir needs repository.url and spool.folder"),
        ("audit: {spool: {folder: /spool}}", "audit: repository and spool are for sink fhir"),
        (
            "audit: {key_file: /nowhere}",
            "audit.key_file: cannot be read: No such file or directory",
        ),
        (
            "pacs: {generated_issuers: [ '**' ]}",
            "pacs.generated_issuers.0: must be text, with four letters or digits beside * and ?",
        ),
        (
            "pacs: {generated_issuers: ['A\\\\B']}",
            "pacs.generated_issuers.0: must be text, with four letters or digits beside * and ?",
        ),
        ("capabilities: {mode: token_bound}", "capabilities: mode token_bound needs keys_file"),
        (
            "capabilities: {mode: bearer}",
            (
                "capabilities.mode: bearer is no more: an address works with its token alone; "
                "set token_bound (or off), "
            ),
        ),
        (
            "capabilities: {recheck_seconds: 60}",
            "capabilities.recheck_seconds: unknown key: it is no more; take it away",
        ),
        (
            "capabilities: {keys_file: /nowhere}",
            "capabilities.keys_file: cannot be read: No such file or directory",
        ),
        (
            "access: {backend_services: true, clients: {a: {patients: [Patient/1]}}}",
            "access.clients.a.patients.0: must be a FHIR",
        ),
        (
            "access: {backend_services: true, clients: {a: {group: x}}}",
            "access.clients.a.group: unknown key; did you mean gro",
        ),
        (
            "access: {rules: [{name: a, effect: exclude, study: {Modality: [CT]}}]}",
            "access.rules.0.study.Modality: unknown key (known here: 'AccessionNumber'",
        ),
        ("tokens: {jwt: {algorithms: []}}", "tokens.jwt.algorithms: needs at least one"),
        ("access: {clients: {a: {}}}", "access: clients are for backend_services, which is off"),
        (
            "access: {rules: [{name: a, effect: hold}]}",
            "access.rules.0: effect hold needs hours, and hours needs effect",
        ),
        (
            "access: {rules: [{name: a, effect: hide}]}",
            "access.rules.0.effect: must be 'exclude', 'hold' or 'show'",
        ),
        (
            "access: {rules: [{name: a, effect: exclude, study: {StudyDate: ['2024']}}]}",
            "access.rules.0.study: StudyDate",
        ),
        (
            "access: {rules: [{name: a, effect: exclude, series: {}}]}",
            "access.rules.0.series: has no condition",
        ),
        ("tokens: {jwt: {algorithms: [none]}}", "tokens.jwt.algorithms.0: must be 'RS256', "),
        ("tokens: {jwt: {algorithms: [HS256]}}", "tokens.jwt.algorithms.0: must be 'RS256', "),
        ("tokens: {claims: {patient: []}}", "tokens.claims.patient: "),
        (
            "patients: {mapping: ehr}",
            "patients: mapping ehr needs at least one entry in identifiers",
        ),
        (
            "patients: {identifiers: [{system: a}]}",
            "patients: identifiers are for mapping ehr, but mapping is direct",
        ),
        (
            "patients: {mapping: ehr, identifiers: [{system: a}, {system: a, issuer: b}]}",
            "patients: a system stands tw",
        ),
    ],
)
def test_one_line_for_a_wrong_value(write: Write, text: str, line: str) -> None:
    (problem,) = problems(write(MINIMUM), write(text, "second.yaml"))
    assert problem.startswith(f"second.yaml: {line}")


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
    assert settings.tokens.jwt.algorithms == ["RS256", "RS384", "ES256", "ES384"]


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
        write("pacs: {timeout_seconds: soon}\nlogs: {}\n"),
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
        "site.yaml pacs.timeout_seconds",
    ]


def test_a_key_with_control_characters_stays_on_one_line(write: Write) -> None:
    (problem,) = problems(write(MINIMUM + '"a\\nb\\e[31m": 1\n'))
    assert problem.startswith("site.yaml: a\\nb\\x1b[31m: unknown key")


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_the_private_key_must_be_of_the_algorithm(write: Write, algorithm: str) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    client = {"method": "backend_services", "client_id": "us", "algorithm": algorithm}
    client["private_key_file"] = str(write(key, "key.pem"))
    files = (write(MINIMUM), write(yaml.safe_dump({"patients": {"client": client}}), "second.yaml"))
    if algorithm == "ES384":
        assert isinstance(load(*files).patients.client, BackendServicesClient)
    else:
        assert problems(*files) == [
            "second.yaml: patients.client.private_key_file: not a private key for RS384"
        ]


def test_a_certificates_file_without_certificates(write: Write) -> None:
    file = write(SECRET, "ca.pem")
    name = "SIDECAR_EHR__CA_FILE"
    line = f"environment {name}: ehr.ca_file: holds no certificate in PEM form"
    assert problems(write(MINIMUM), **{name: str(file)}) == [line]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("one " + "1" * 64, None),
        ("# new\none " + "a" * 64 + "\n\ntwo  " + "B" * 64 + "\n", None),
        ("", "must have one key, or two with different ids while keys are changed"),
        (
            "one " + "1" * 64 + "\none " + "2" * 64,
            "must have one key, or two with different ids while keys are changed",
        ),
        (
            "\n".join(f"k{one} " + "1" * 64 for one in range(3)),
            "must have one key, or two with different ids",
        ),
        ("1" * 64, "a line is not: an id of letters and digits, a space, 64 hexadecimal digits"),
        (
            "one " + "1" * 63,
            "a line is not: an id of letters and digits, a space, 64 hexadecimal digits",
        ),
    ],
)
def test_capability_keys(write: Write, content: str, problem: str | None) -> None:
    keys = write(content, "keys")
    files = (
        write(MINIMUM),
        write(f"capabilities: {{mode: token_bound, keys_file: {keys}}}", "second.yaml"),
    )
    if problem is None:
        assert load(*files).capabilities.mode == "token_bound"
    else:
        (line,) = problems(*files)
        assert line.startswith(f"second.yaml: capabilities.keys_file: {problem}")
        assert "1" * 63 not in line


def test_rules_may_name_what_is_described() -> None:
    """A keyword that could be configured and is never read would hide everything."""
    rule = RuleSettings.model_json_schema()["properties"]
    for name, known in (("study", STUDY_KEYWORDS), ("series", SERIES_KEYWORDS)):
        assert set(rule[name]["anyOf"][0]["propertyNames"]["enum"]) == set(known)
