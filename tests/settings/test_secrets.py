"""Secrets, keys and certificates in files and in the environment."""

from pathlib import Path

import pytest
import yaml

from sidecar.settings.adapter import ADAPTER
from sidecar.settings.upstream_auth import BackendServicesClient, SecretClient
from tests.certificates import certificate
from tests.ehr.backend import EC_KEY, pem
from tests.settings.loading import Write, load, problems
from tests.tables.settings import MINIMUM, SECRET, SECTIONS

WITH_SECRET = "tokens: {client: {method: client_secret_basic, client_id: us}}\n"


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
        assert SECRET not in str(ADAPTER.dump_json(settings)) + repr(settings)
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


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_the_private_key_must_be_of_the_algorithm(write: Write, algorithm: str) -> None:
    client = {"method": "backend_services", "client_id": "us", "algorithm": algorithm}
    client["private_key_file"] = str(write(pem(EC_KEY), "key.pem"))
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


CACHE = {"url": "redis://cache.example.org:6380/1"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": "rediss://cache", "ca_file": "ca"}, None),
        ({"url": "unix:///run/redis.sock"}, None),
        ({"username": "us", "password_file": "secret"}, None),
        ({"password": SECRET}, None),
        ({"url": None}, "key_file needs url"),
        ({"url": None, "key_file": None, "password": SECRET}, "password needs url"),
        ({"key_file": None}, "url needs key_file: openssl rand -hex 32"),
        (
            {"password": SECRET, "password_file": "secret"},
            "needs at most one of password and password_file",
        ),
        ({"username": "us"}, "username needs password or password_file"),
        ({"ca_file": "ca"}, "ca_file needs a url with rediss"),
    ],
)
def test_the_shared_token_cache(
    write: Write, changes: dict[str, str | None], problem: str | None
) -> None:
    ours, _ = certificate(write("", "folder").parent, "ca")
    files = {"key": write("k" * 32, "key"), "secret": write(SECRET, "secret"), "ca": ours}
    cache = {
        name: str(files[value]) if value in files else value
        for name, value in ({"key_file": "key"} | CACHE | changes).items()
    }
    document = write(yaml.safe_dump({"tokens": {"cache": cache}}), "second.yaml")
    if problem is not None:
        assert problems(write(MINIMUM), document) == [f"second.yaml: tokens.cache: {problem}"]
        return
    loaded = load(write(MINIMUM), document)
    has_password = "password" in changes or "password_file" in changes
    assert loaded.tokens.cache.server_password() == (SECRET if has_password else None)
    assert loaded.tokens.cache.sealing_key() == b"k" * 32
    assert SECRET not in str(ADAPTER.dump_json(loaded)) + repr(loaded)


@pytest.mark.parametrize(
    "url",
    [
        "redis://us:Zq7-hunter2-Xw@cache",
        "redis://cache?password=Zq7-hunter2-Xw",
        "redis://cache:Zq7-hunter2-Xw",
        "redis://cache/name",
        "redis://cache/10000",
        "redis:///1",
        "redis://[::1",
        "unix://path",
        "unix:path",
        "http://cache",
        "redis://cache\n",
        "redis://cäche",
    ],
)
def test_a_wrong_url_of_the_shared_token_cache(write: Write, url: str) -> None:
    (problem,) = problems(
        write(MINIMUM), write(yaml.safe_dump({"tokens": {"cache": {"url": url}}}), "second.yaml")
    )
    assert problem.startswith("second.yaml: tokens.cache.url: must ")


def test_the_shared_token_cache_is_for_introspection(write: Write) -> None:
    key = write("k" * 32, "key")
    tokens = {"validation": "jwt", "audience": ["us"], "cache": {**CACHE, "key_file": str(key)}}
    assert problems(write(MINIMUM), write(yaml.safe_dump({"tokens": tokens}), "second.yaml")) == [
        "site.yaml + second.yaml: tokens: cache.url is for introspection: jwt asks nobody"
    ]
