"""The code of docs/apps.md runs as it stands there, against the demo's EHR and archive."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from aiohttp import web
from aiohttp.typedefs import Handler

from sidecar.demo.archive.app import create_archive
from sidecar.demo.samples import fill
from tests.capability_keys import token_bound
from tests.demo.demo_process import running_demo
from tests.installed import installed
from tests.journey.world import World, make_world
from tests.markdown import ROOT
from tests.sidecar_process import free_port
from tests.waiting import WAIT_SECONDS

TEXT = (ROOT / "docs/apps.md").read_text()
BLOCKS = re.findall(r"^```(.+)\n((?:.*\n)*?)```$", TEXT, re.MULTILINE)
APP = [code for language, code in BLOCKS if language == 'python title="app.py"']
PYTHON = [code for language, code in BLOCKS if language == "python"]
JAVASCRIPT = [code for language, code in BLOCKS if language == "js"]
CONSENT = [sys.executable, "-m", "tests.documents.consent"]
# Without this the Node.js of Debian 12 has no `crypto` in a module; later ones take it as well.
NODE_18 = ["--experimental-global-webcrypto"]

# What an app does with the pieces. The token that is put in the middle is none: it must be renewed.
USE_PYTHON = """
import json, subprocess, sys
printed = subprocess.check_output([*CONSENT, login_url, "--print"], text=True)
use(finish_login(printed.strip()))
studies, addresses, time = search(_count=2)
use({"access_token": "ended"})
for number, study in enumerate(studies):
    save(study, addresses, f"{number}.zip")
studies, addresses, _ = search(_count=2)
uids = [str(one.SOPInstanceUID) for study in studies for one in datasets_of(study, addresses)]
try:
    search(patient="peter")
    refused = None
except Refused as error:
    refused = error.args
later = [len(changed_since(since)[0]) for since in (time, "2199-01-01")]
print(json.dumps({"studies": len(studies), "uids": uids, "refused": refused, "later": later}))
"""
USE_JAVASCRIPT = """
import { execFileSync } from "node:child_process";
const [command, ...rest] = CONSENT;
const printed = execFileSync(command, [...rest, loginUrl, "--print"], { encoding: "utf8" });
use(await finishLogin(printed.trim()));
const { studies, addresses, time } = await search({ _count: 2 });
use({ access_token: "ended" });
for (const [number, study] of studies.entries()) await save(study, addresses, `${number}.zip`);
const refused = await search({ patient: "peter" }).then(
  () => null, ({ status, message }) => [status, message]);
const later = [];
for (const since of [time, "2199-01-01"]) later.push((await changedSince(since)).studies.length);
console.log(JSON.stringify({ studies: studies.length, refused, later }));
"""


def _slow_at_first(files: Path) -> web.Application:
    """Return an archive that takes three seconds for the first study that is retrieved."""
    archive, seen = create_archive(files), set[str]()

    @web.middleware
    async def fetch_from_tape(request: web.Request, handler: Handler) -> web.StreamResponse:
        if re.search(r"/studies/[\d.]+$", request.path) and not seen:
            seen.add(request.path)
            await asyncio.sleep(3)
        return await handler(request)

    archive.middlewares.append(fetch_from_tape)
    return archive


@pytest.fixture(params=["standing", "token_bound"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A site whose archive is slow at first, so that an app has to wait and to ask again.

    ``token_bound``: addresses end with the token of their search, so that it has to search again.
    """
    files = tmp_path / "images"
    fill(files)
    changes: dict[str, Any] = {"limits": {"defer_after_seconds": 1}}
    if request.param == "token_bound":
        changes["capabilities"] = token_bound(tmp_path)
    with make_world(tmp_path, files, None, changes, embedded=_slow_at_first) as made:
        yield made


def _run(ehr_url: str, command: list[str], code: str, folder: Path, patient: str = "robin") -> str:
    """Run a piece of the page in a folder of its own; return what it prints.

    ``patient``: whose images are allowed at the EHR.
    """
    folder.mkdir()
    back = f"http://127.0.0.1:{free_port()}/"
    program = code.replace("http://127.0.0.1:8081", ehr_url)
    program = program.replace("http://127.0.0.1:8765/", back)
    program = program.replace("8765", back.rpartition(":")[2].rstrip("/"))
    # JavaScript with `import` is a module by its name.
    file = "app.py" if command == [sys.executable] else "app.mjs"
    (folder / file).write_text(program)
    browser = " ".join([*CONSENT, "%s", "&"])
    done = subprocess.run(
        [*command, file],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "BROWSER": browser, "PATIENT": patient},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_whole_app_has_thirty_lines_and_saves_each_instance(
    world: World, tmp_path: Path
) -> None:
    (code,) = APP
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    _run(world.ehr_url, [sys.executable], code, tmp_path / "app")
    saved = {
        str(pydicom.dcmread(file).SOPInstanceUID): file for file in (tmp_path / "app").glob("*.dcm")
    }
    assert saved.keys() == {instance.uid for instance in world.of("robin")}


@pytest.mark.exhaustive
def test_the_whole_app_on_the_demo_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    """As a newcomer runs it. Ada has a study with a hidden series, and one that is held."""
    with running_demo() as demo:
        _run(demo.ehr, [sys.executable], APP[0], tmp_path / "app", "ada")
        archive = f"http://127.0.0.1:{demo.port + 2}/dicom-web/instances?PatientID=SYN-1001"
        rows = requests.get(archive, timeout=60).json()
    saved = {file.stem for file in (tmp_path / "app").glob("*.dcm")}
    assert saved < {row["00080018"]["Value"][0] for row in rows}
    assert len(saved) > 100


def test_the_steps_in_python(world: World, tmp_path: Path) -> None:
    code = "\n".join([*PYTHON, f"CONSENT = {CONSENT!r}", USE_PYTHON])
    said = json.loads(_run(world.ehr_url, [sys.executable], code, tmp_path / "app"))
    _what_was_done(world, said, tmp_path / "app")
    assert sorted(said["uids"]) == sorted(instance.uid for instance in world.of("robin"))


@pytest.mark.javascript
def test_the_steps_in_javascript(world: World, tmp_path: Path) -> None:
    node = installed(shutil.which("node"), "no Node.js: apt-get install nodejs")
    code = "\n".join([*JAVASCRIPT, f"const CONSENT = {json.dumps(CONSENT)};", USE_JAVASCRIPT])
    said = json.loads(_run(world.ehr_url, [node, *NODE_18], code, tmp_path / "app"))
    _what_was_done(world, said, tmp_path / "app")


def _what_was_done(world: World, said: dict[str, Any], folder: Path) -> None:
    """Each page was read and each study saved whole; the app waited, and renewed its token."""
    mine = world.of("robin")
    assert said["refused"] == [403, "The access token is for another patient."]
    assert said["studies"] == len({instance.study for instance in mine}) > 2
    # What was first seen by the first search is new to the second.
    assert said["later"] == [said["studies"], 0]
    count = 0
    for file in folder.glob("*.zip"):
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            count += len([name for name in archive.namelist() if not name.endswith("/")])
    assert count == len(mine)
    assert list(folder.glob("*.part")) == []
    metrics = requests.get(f"{world.sidecar.admin}/metrics", timeout=60).text
    counted = re.findall(r'_requests_total\{.*status="(401|503)"\} ([\d.]+)', metrics)
    assert {status for status, count in counted if float(count)} == {"401", "503"}
    # With capability URLs the address that was found with the first token is refused.
    is_bound = (folder.parent / "keys").exists()
    assert ('reason="other_token"' in metrics) is is_bound


def test_there_is_code() -> None:
    """So that the tests above can fail; each piece in both languages."""
    assert len(PYTHON) == len(JAVASCRIPT) == 7
    assert {language for language, _ in BLOCKS} == {"python", "js", 'python title="app.py"'}
