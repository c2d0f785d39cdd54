"""docs/upgrade.md has the keys that are gone, and those that took their place."""

import re
from pathlib import Path

import pytest
import yaml

from sidecar.settings.reference import all_keys
from tests.markdown import ROOT
from tests.settings.loading import problems
from tests.tables.settings import MINIMUM

_OLD_KEYS = re.findall(
    r"^\| `([a-z0-9_.]+)` \| (.+) \|$",
    (ROOT / "docs/upgrade.md").read_text().partition("## What to look at")[0],
    re.MULTILINE,
)
_KEYS = {key.name for key in all_keys()}


def test_old_keys_are_found() -> None:
    assert len(_OLD_KEYS) == len(dict(_OLD_KEYS)) > 30


@pytest.mark.parametrize(("old", "now"), _OLD_KEYS, ids=[old for old, _ in _OLD_KEYS])
def test_an_old_key_is_refused_and_a_new_one_is_there(old: str, now: str, tmp_path: Path) -> None:
    document: object = 1
    for step in reversed(old.split(".")):
        document = {step: document}
    files = tmp_path / "least.yaml", tmp_path / "old.yaml"
    files[0].write_text(MINIMUM)
    files[1].write_text(yaml.safe_dump(document))
    (problem,) = problems(*files)
    assert problem.startswith(f"old.yaml: {old}: unknown key")
    assert set(re.findall(r"`(limits\.\w+|compat\.\w+)`", now)) <= _KEYS


def test_a_mode_that_is_gone_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bearer.yaml"
    file.write_text(MINIMUM + "capabilities: {mode: bearer}\n")
    assert [line.partition(": must")[0] for line in problems(file)] == [
        "bearer.yaml: capabilities.mode"
    ]
