"""HL7's validator finds no fault with what we serve and write, in R4 and in R5 (SIA-24, 30, 31,
60).
"""

import copy
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.installed import installed
from tests.real.hapi.documents import write_documents
from tests.real.hapi.server import HAPI, NO_HAPI, java
from tests.tables.hl7_messages import ACCEPTED, BROKEN

pytestmark = pytest.mark.hapi


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of warnings and errors: one line each, which begins with the document."""
    installed((HAPI / ".built").is_file(), NO_HAPI)
    folder = tmp_path_factory.mktemp("validated") / "documents"
    write_documents(tmp_path_factory.mktemp("served"), folder)
    for name, (document, pointer, value, _) in BROKEN.items():
        good = json.loads((folder / f"{document}.json").read_text())
        version = document.partition("/")[0]
        (folder / version / f"broken {name}.json").write_text(
            json.dumps(_broken(good, pointer, value))
        )
    done = subprocess.run(
        java("Validator", folder), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    lines = done.stdout.splitlines()
    assert all(line.count("\t") == 4 for line in lines)
    return [line for line in lines if line.split("\t")[1] != "information"]


def _broken(document: dict[str, Any], pointer: str, value: object) -> dict[str, Any]:
    """Put ``value`` in the place of the element; ``None``: it is gone."""
    made = copy.deepcopy(document)
    *path, last = pointer.strip("/").split("/")
    place: Any = made
    for step in path:
        place = place[int(step) if isinstance(place, list) else step]
    key: Any = int(last) if isinstance(place, list) else last
    if value is None:
        del place[key]
    else:
        place[key] = value
    return made


def _of_ours(messages: list[str]) -> Iterator[str]:
    return (line for line in messages if "/broken " not in line.partition("\t")[0])


def test_what_we_serve_and_write_is_valid(messages: list[str]) -> None:
    """What is warned of is in the table, with its reason."""
    assert [line for line in _of_ours(messages) if not any(part in line for part in ACCEPTED)] == []


@pytest.mark.parametrize("part", ACCEPTED)
def test_each_row_of_the_table_is_needed(messages: list[str], part: str) -> None:
    assert any(part in line for line in _of_ours(messages))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_document_is_an_error(messages: list[str], name: str) -> None:
    """So that the first test can fail."""
    document, *_, text = BROKEN[name]
    file = f"{document.partition('/')[0]}/broken {name}.json"
    errors = [line for line in messages if line.startswith(f"{file}\terror\t")]
    assert any(text in line for line in errors), errors
