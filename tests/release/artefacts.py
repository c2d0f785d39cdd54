"""What `make release` has made, looked at and tried. pytest collects it where it is named.

RELEASE names the folder, or it is build/release. The last test takes packages from an index.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest
import requests

from release.commands import git
from release.versions import semver
from sidecar import __version__
from tests.helm.rendering import rendered, values_of
from tests.release.pins import PINS, ROOT
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS, wait_until

FOLDER = Path(os.environ.get("RELEASE", ROOT / "build/release"))
WHEEL = FOLDER / f"smart_imaging_sidecar-{__version__}-py3-none-any.whl"
SDIST = FOLDER / f"smart_imaging_sidecar-{__version__}.tar.gz"
CHART = FOLDER / f"smart-imaging-sidecar-{semver(__version__)}.tgz"


def test_each_file_is_summed_and_named() -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    summed = {line.partition(":")[0] for line in done.stdout.splitlines()}
    assert summed | {"SHA256SUMS"} == {file.name for file in FOLDER.iterdir()}
    statement = json.loads((FOLDER / "provenance.intoto.json").read_text())
    stated = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    for file in (WHEEL, SDIST, CHART):
        assert stated[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters == {"commit": git(ROOT, "rev-parse", "HEAD")}


def test_the_wheel_has_the_page_and_no_tests() -> None:
    names = zipfile.ZipFile(WHEEL).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "sidecar",
        f"smart_imaging_sidecar-{__version__}.dist-info",
    }
    static = {name.rpartition(".")[2] for name in names if name.startswith("sidecar/demo/page/")}
    assert static >= {"html", "css", "js"}


def test_the_sdist_is_the_repository() -> None:
    with tarfile.open(SDIST) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"PKG-INFO"} == set(
        git(ROOT, "ls-tree", "-r", "--name-only", "HEAD").split("\n")
    )


def test_the_chart_renders_the_image_of_the_version() -> None:
    (deployment,) = (one for one in rendered(values_of(), CHART) if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f":{__version__}")


def test_the_bill_of_materials_has_what_the_lock_pins() -> None:
    bill = json.loads((FOLDER / f"smart-imaging-sidecar-{__version__}.cdx.json").read_text())
    assert bill["metadata"]["component"]["version"] == __version__
    listed = {(PINS.canonical(one["name"]), one["version"]) for one in bill["components"]}
    project = PINS.tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = PINS.pins(project, (ROOT / "requirements.lock").read_text(), ["dependencies"])
    lines = [line.split()[0] for line in pinned.splitlines() if "==" in line and ";" not in line]
    assert listed >= {tuple(line.split("==")) for line in lines}
    assert {f"{name}=={version}" for name, version in listed} <= {
        line.split()[0] for line in pinned.splitlines() if "==" in line
    }


def test_no_folder_of_this_machine_is_named() -> None:
    statements = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    assert len(statements) >= 2
    folders = {str(folder) for folder in (ROOT, FOLDER, Path(tempfile.gettempdir()))}
    assert {
        name for name, text in statements.items() for one in folders if f"{one}/" in text
    } == set()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an empty environment with the wheel and what it needs for `demo`."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder / "venv", symlinks=True)
    pins = folder / "pins"
    pins.write_bytes(
        subprocess.check_output([sys.executable, ".ci/pins", "dependencies,demo"], cwd=ROOT)
    )
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv/bin/python")]
    subprocess.run([*pip, "install", "-q", "--require-hashes", "-r", pins], check=True)
    # As a user types it: the extra is there already, so that nothing else is looked for.
    subprocess.run([*pip, "install", "-q", "--no-index", f"{WHEEL}[demo]"], check=True)
    return folder / "venv/bin"


def test_the_wheel_runs_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    command = installed / "smart-imaging-sidecar"
    variables = {"PATH": str(installed), "HOME": str(tmp_path)}
    for arguments in (["--version"], ["serve", "--help"], ["check", "--help"]):
        done = subprocess.run(
            [command, *arguments],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
    port = free_ports_in_a_row(4)
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(
            [command, "demo", "--port", str(port)],
            cwd=tmp_path,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        page = wait_until(
            "the page",
            lambda: requests.get(f"http://127.0.0.1:{port}/", timeout=60),
            lambda answer: answer.status_code == 200,
            not_yet=(requests.ConnectionError,),
            explain=(tmp_path / "log").read_text,
        )
        assert "<title>" in page.text
    finally:
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(WAIT_SECONDS) == 0, (tmp_path / "log").read_text()
