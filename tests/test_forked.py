"""A fork is the command: same output, exit codes and signals as a Python that is started for it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import environment
from tests.forked import Forked
from tests.waiting import WAIT_SECONDS, wait_until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "site.yaml"
    made.write_text(
        "{ehr: {fhir_url: 'http://127.0.0.1:9/fhir'}, tokens: {client: {method: none}}, pacs: {url: 'http://127.0.0.1:9'},"
        " server: {host: 127.0.0.1, port: 0, admin_host: 127.0.0.1, admin_port: 0}}"
    )
    return made


@pytest.mark.parametrize(
    ("arguments", "code"), [(["config", "show"], 0), (["serve", "--nothing"], 2)], ids=str
)
def test_it_writes_and_returns_what_the_command_does(
    arguments: list[str], code: int, file: Path, tmp_path: Path
) -> None:
    arguments = [*arguments, "--config", str(file)]
    begun = subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    output, errors = tmp_path / "output", tmp_path / "errors"
    forked = Forked(arguments, environment(), output, errors)
    assert (forked.wait(), begun.returncode) == (code, code), begun.stderr
    assert output.read_text() == begun.stdout
    assert errors.read_text() == begun.stderr.replace("python -m sidecar", "sidecar")
    assert begun.stdout + begun.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0), (signal.SIGINT, 0)]
)
def test_a_signal_ends_it(number: int, code: int, file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    forked = Forked(["serve", "--config", str(file)], environment(), log)
    wait_until("it serves", log.read_text, lambda text: '"serving"' in text)
    assert forked.poll() is None
    os.kill(forked.pid, number)
    assert forked.wait() == code, log.read_text()
    forked.terminate()  # Nobody is there any more.
