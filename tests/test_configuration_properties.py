"""Whatever a configuration file holds: settings or clear lines, never another exception, and never
a secret.
"""

import json
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings.adapter import ADAPTER
from sidecar.settings.load import ConfigurationError, load_settings
from tests.tables.settings import MINIMUM, SECRET, SECTIONS

KEYS = st.sampled_from(
    [
        "server",
        "ehr",
        "tokens",
        "patients",
        "pacs",
        "auth",
        "client",
        "method",
        "client_id",
        "client_secret",
        "password",
        "token",
        "url",
        "fhir_url",
        "identifiers",
        "system",
        "port",
        "cors_origins",
        "timezone",
        "ca_file",
        "fhir",
        "x",
    ]
)
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=9),
    st.sampled_from(
        [
            SECRET,
            "none",
            "basic",
            "bearer",
            "client_secret_basic",
            "http://a/b",
            "/",
            "",
            "Europe/Berlin",
        ]
    ),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def settings_or_refusal(text: str, directory: Path) -> str:
    """What an operator would see of the document: the effective configuration or the problems."""
    file = directory / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        return ADAPTER.dump_json(load_settings([file], {})).decode()
    except ConfigurationError as refused:
        problems = refused.problems
    assert problems
    assert all(line.isprintable() and line.startswith(f"{file}: ") for line in problems)
    return "\n".join(problems)


@given(document=DOCUMENTS)
def test_any_document_gives_settings_or_problems(
    tmp_path_factory: pytest.TempPathFactory, document: Any
) -> None:
    seen = settings_or_refusal(
        yaml.dump(document, allow_unicode=True), tmp_path_factory.getbasetemp()
    )
    assert SECRET not in seen.replace(f"/{SECRET}", "")


@given(
    text=st.lists(
        st.sampled_from(
            [*"{}[]:,-?&*!|>'\"%@\\#\n \t\0~", "pacs", "url", "<<", "0x", "1e9", "---", "é"]
        )
    )
)
def test_any_text_gives_settings_or_problems(
    tmp_path_factory: pytest.TempPathFactory, text: list[str]
) -> None:
    settings_or_refusal("".join(text), tmp_path_factory.getbasetemp())


@given(
    secret=st.text(
        string.ascii_letters + string.digits + "*!&%-_'\"{}[]#@ ", min_size=8, max_size=40
    ),
    place=st.sampled_from(SECTIONS),
    quoted=st.booleans(),
    wrong=st.booleans(),
)
def test_no_secret_is_shown(
    tmp_path_factory: pytest.TempPathFactory,
    secret: str,
    place: tuple[str, dict[str, str], str],
    quoted: bool,
    wrong: bool,
) -> None:
    """Neither in problems nor in the effective configuration, however badly it is written down."""
    path, section, name = place
    outer, inner = path.split(".")
    # A mark that stands nowhere else: any part of the secret that shows, shows it.
    secret = f"Zq7{secret}Zq7" if secret[0].isalnum() else f"{secret[0]}Zq7{secret[1:]}Zq7"
    document = yaml.safe_load(MINIMUM)
    document.setdefault(outer, {})[inner] = (
        section | {name: "PLACE"} | ({"wrong": 1} if wrong else {})
    )
    text = yaml.safe_dump(document).replace("PLACE", json.dumps(secret) if quoted else secret)
    assert "Zq7" not in settings_or_refusal(text, tmp_path_factory.getbasetemp())
