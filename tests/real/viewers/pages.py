"""Pages with viewers on them: OHIF and libraries of docs/viewers.md, served as the page says."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

from tests.installed import installed
from tests.markdown import ROOT
from tests.sidecar_process import free_port
from tests.waiting import wait_until

DOCUMENT = ROOT / "docs/viewers.md"
OHIF = ROOT / "build/ohif/dist"
MODULES = Path(__file__).parent / "node_modules"
NO_OHIF = "no viewer to drive: make ohif (needs npm)"
NO_LIBRARIES = "no viewers' libraries: make viewers (needs npm)"
_DEMO = "http://127.0.0.1:8080"


def require_ohif() -> None:
    """Skip without OHIF and what serves it; with REQUIRE_REAL_SERVERS set, fail."""
    installed((OHIF / "index.html").exists(), NO_OHIF)
    require_libraries()


def require_libraries() -> None:
    """Skip without the libraries; with REQUIRE_REAL_SERVERS set, fail."""
    installed((MODULES / ".package-lock.json").exists() and shutil.which("node"), NO_LIBRARIES)


def at(code: str, *, sidecar: str, ehr: str) -> str:
    """Return a piece of the page with other addresses than the demo's."""
    assert _DEMO in code
    return code.replace(_DEMO, sidecar).replace("http://127.0.0.1:8081", ehr)


def without_login(configuration: str) -> str:
    """Return OHIF's configuration without ``oidc``, as the page says for portals with a token."""
    changed, count = re.subn(r"^  oidc: \[\n.*?^  \],\n", "", configuration, flags=re.S | re.M)
    assert count == 1
    return changed


@contextlib.contextmanager
def ohif(folder: Path, configuration: str) -> Iterator[str]:
    """Serve OHIF with a configuration; yields its address."""
    folder.mkdir()
    for file in OHIF.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "app-config.js").unlink()
    with _served(folder, {"app-config.js": configuration}) as address:
        yield address


@contextlib.contextmanager
def bundled(folder: Path, code: str) -> Iterator[str]:
    """Bundle a piece of the page with its libraries, and serve it; yields its address.

    What the piece exports is ``viewer`` on the page.
    """
    folder.mkdir()
    subprocess.run(
        [MODULES / ".bin/esbuild", "--bundle", "--format=esm", f"--outfile={folder / 'viewer.js'}"],
        input=code.encode(),
        cwd=MODULES.parent,
        check=True,
        capture_output=True,
    )
    page = (
        "<!doctype html><meta charset=utf-8><title>A viewer</title>"
        "<body style='margin:0;background:black'>"
        "<div id=picture style='width:512px;height:512px'></div>"
        "<script type=module>import * as viewer from './viewer.js'; window.viewer = viewer"
        "</script>"
    )
    with _served(folder, {"index.html": page}) as address:
        yield address


@contextlib.contextmanager
def _served(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    for name, text in files.items():
        (folder / name).write_text(text)
    address = f"127.0.0.1:{free_port()}"
    command = ["--single", "--symlinks", "--no-clipboard", "--no-request-logging"]
    process = subprocess.Popen(
        [MODULES / ".bin/serve", *command, "--listen", f"tcp://{address}", folder],
        stdout=subprocess.DEVNULL,
    )
    try:

        def answers() -> bool:
            return requests.get(f"http://{address}/", timeout=60).ok

        wait_until("the page is served", answers, not_yet=(requests.ConnectionError,))
        yield f"http://{address}"
    finally:
        process.kill()  # It would wait for the browser's connections to end.
        process.wait()
