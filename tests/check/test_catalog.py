"""Check of the catalog's file: it is looked at and not touched."""

import os
from pathlib import Path

import pytest

from sidecar.conformance.finding import State
from sidecar.fhir.catalog.sqlite import SqliteStore
from tests.check.scripted_site import Pacs, found
from tests.fakes.ehr import ScriptedEhr


async def look(ehr: ScriptedEhr, pacs: Pacs, file: Path) -> tuple[State, str]:
    """The state of the finding, its text and its hint."""
    fhir = {"catalog": {"file": str(file)}}
    finding = (await found(ehr, pacs, server={"workers": 2}, fhir=fhir))["fhir.catalog"]
    return finding.state, f"{finding.text} {finding.hint}"


async def test_no_file_is_made(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    """A file that check made would be root's, and each search of the service a 503."""
    state, text = await look(ehr, pacs, tmp_path / "catalog.sqlite")
    assert (state, list(tmp_path.iterdir())) == (State.OK, []), text


async def test_a_file_that_is_in_use(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite"
    store = SqliteStore(file)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert (await look(ehr, pacs, file))[0] is State.OK
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    store.close()


async def test_a_folder_that_is_not_there(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    """The other checks are made all the same."""
    state, text = await look(ehr, pacs, tmp_path / "absent" / "catalog.sqlite")
    assert state is State.FAIL
    assert "does not exist" in text
    assert "or name another file: fhir.catalog.file, with fhir.catalog.store: sqlite" in text


async def test_a_file_that_is_no_database(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite"
    file.write_text("something else, and longer than a header")
    state, text = await look(ehr, pacs, file)
    assert state is State.FAIL
    assert "is no SQLite database" in text
    assert (await look(ehr, pacs, tmp_path))[0] is State.FAIL


@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", ""])
async def test_what_this_user_cannot_write(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The file, its folder, and the files that SQLite keeps beside it."""
    file = tmp_path / "catalog.sqlite"
    store, access = SqliteStore(file), os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: path != tmp_path / name and access(path, mode)
    )
    state, text = await look(ehr, pacs, file)
    assert state is State.FAIL
    assert f"{tmp_path / name} cannot be written by this user" in text
    store.close()


async def test_another_store(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    """PostgreSQL is connected to, and what fails is a finding."""
    dsn = tmp_path / "dsn"
    dsn.write_text("host=127.0.0.1 port=9 dbname=secret password=secret")
    catalog = {"store": "postgresql", "dsn_file": str(dsn)}
    finding = (await found(ehr, pacs, fhir={"catalog": catalog}))["fhir.catalog"]
    assert finding.state is State.FAIL
    assert "secret" not in finding.text
    assert (await found(ehr, pacs))["fhir.catalog"].text == "memory"
