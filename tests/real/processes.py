"""Ends the processes of real parts."""

import subprocess

from tests.waiting import WAIT_SECONDS


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process; kill it when it has not ended after ``WAIT_SECONDS``."""
    process.terminate()
    try:
        process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
