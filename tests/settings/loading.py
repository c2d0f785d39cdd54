"""Load settings from files that a test writes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.settings.document import Settings
from sidecar.settings.load import ConfigurationError, load_settings
from tests.tables.settings import SECRET

Write = Callable[..., Path]


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
