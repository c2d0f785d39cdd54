"""`config show --explain`: what a key means, its value, and the place that set it."""

import pytest
import yaml

from sidecar.settings.explain import explain
from sidecar.settings.load import ConfigurationError, read_document
from sidecar.settings.reference import all_keys
from tests.settings.loading import Write
from tests.tables.settings import MINIMUM, SECRET


def values(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("  value: ")]


def test_a_number_with_its_unit_bounds_and_default() -> None:
    assert explain("limits.query_results", None).splitlines() == [
        "limits.query_results",
        "  Maximum rows of one query to the PACS. Beyond: 502; the result is never cut.",
        "  type: integer 1 to 1,000,000 (rows)",
        "  default: 20000",
    ]


def test_where_values_come_from(write: Write) -> None:
    """The last file with its line, the environment's variable, or the default."""
    first = write(MINIMUM + "log:\n  level: ERROR\nserver: {port: 1, admin_host: a}\n", "a.yaml")
    second = write("log:\n\n  level: DEBUG\nserver:\n  cors_origins:\n  - https://a\n", "b.yaml")
    document = read_document([first, second], {"SIDECAR_SERVER__PORT": "8081"})
    assert values(explain("log", document)) == [f"value: DEBUG ({second}:3)"]
    assert values(explain("server.cors_origins", document)) == [
        f'value: ["https://a"] ({second}:5)'
    ]
    assert values(explain("server.port", document)) == [
        "value: 8081 (environment SIDECAR_SERVER__PORT)"
    ]
    assert values(explain("server.admin", document)) == [
        f"value: a ({first}:7)",
        "value: 9090 (default)",
    ]


def test_lists_and_mappings_have_a_value_for_each_element(write: Write) -> None:
    file = write(
        MINIMUM
        + "access:\n  backend_services: true\n  clients:\n    app: {patients: ['1']}\n    b: {}\n"
        "  rules:\n  - {name: a, effect: exclude}\n  - {name: b, effect: show}\n"
    )
    document = read_document([file], {})
    assert values(explain("access.rules[].name", document)) == [
        f"value: access.rules.0.name: a ({file}:11)",
        f"value: access.rules.1.name: b ({file}:12)",
    ]
    assert values(explain("access.clients.<name>.patients", document)) == [
        f'value: access.clients.app.patients: ["1"] ({file}:8)',
        "value: access.clients.b.patients: [] (default)",
    ]


def test_secrets_are_masked(write: Write) -> None:
    client = {"method": "client_secret_post", "client_id": "us", "client_secret": SECRET}
    file = write(MINIMUM.replace("{method: none}", yaml.safe_dump(client, default_flow_style=True)))
    text = explain("tokens", read_document([file], {}))
    assert "value: **********" in text
    assert SECRET not in text


def test_a_union_has_values_for_its_method_alone(write: Write) -> None:
    text = explain("pacs.auth.method", read_document([write(MINIMUM)], {}))
    assert text.count("pacs.auth.method (method ") == 3
    assert values(text) == ["value: none (default)"]


@pytest.mark.parametrize(
    ("wanted", "first", "count"),
    [
        ("log", "log.level", 1),
        ("pacs.url", "pacs.url", 1),
        ("limits.pacs", "limits.pacs_connections", 2),
        ("access.rules", "access.rules", 7),
        ("tokens.claims", "tokens.claims.patient", 7),
    ],
)
def test_a_section_or_the_beginning_of_keys(wanted: str, first: str, count: int) -> None:
    texts = explain(wanted, None).split("\n\n")
    assert (texts[0].splitlines()[0], len(texts)) == (first, count)


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("pacs.urll", "pacs.urll: unknown key; did you mean pacs.url"),
        ("pacs.max_results", "pacs.max_results: unknown key; did you mean limits.query_results?"),
        (
            "timeout",
            "timeout: unknown key; did you mean limits.pacs_timeout_seconds or limits.ehr_timeo",
        ),
        ("url", "url: unknown key; did you mean server.public_url or ehr.fhir_url or "),
        ("\x1b", "\\x1b: unknown key"),
        ("", ": unknown key"),
    ],
)
def test_an_unknown_key(wanted: str, line: str) -> None:
    with pytest.raises(ConfigurationError) as unknown:
        explain(wanted, None)
    (problem,) = unknown.value.problems
    assert problem.startswith(line)


def test_every_key_can_be_explained(write: Write) -> None:
    document = read_document([write(MINIMUM)], {})
    for key in all_keys():
        assert explain(key.name, document).startswith(key.name)
