"""The commands that a release runs."""

import os
import subprocess
from pathlib import Path


class Refused(Exception):
    """What has been made is not what a release may hold. The text says why."""


def run(*command: str | Path, **environment: str) -> str:
    """Return what a command says. Raises Refused, with all that it said, where it fails."""
    words = [*map(str, command)]
    done = subprocess.run(
        words, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{done.stdout}{done.stderr}"
        raise Refused(f"{' '.join(words[:4])} ended with {done.returncode}:\n{said}")
    return done.stdout.strip()


def git(repository: Path, *arguments: str) -> str:
    """Return what git says of a repository, which may be another user's: CI's, where root runs."""
    return run("git", "-C", repository, "-c", f"safe.directory={repository}", *arguments)
