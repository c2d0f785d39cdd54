"""Take one rule of the specification out at a time; a test that is named for it must fail.

``make conformance-mutants`` runs this. Each row of ``tables/conformance_mutations.py`` is tried in
a copy of the sidecar in which one text is changed, by a pytest of its own: many of these tests run
the server as a process, which the forks of ``tests.mutants`` do not reach. The tests must also pass
in a copy where nothing is changed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import LIMIT_SECONDS, ROOT
from tests.tables.conformance_mutations import MUTATIONS, Mutation

WAIT_SECONDS = 15
"""The end of waits for what will not come, because a rule is not there."""


def copy_of_the_sidecar(work: Path, changed: Mutation | None = None) -> Path:
    """Return a folder with all of the project as links, but for the sidecar, which is a copy.

    What was compiled comes along. ``changed``: the text that is another one there.
    """
    folder = Path(tempfile.mkdtemp(dir=work))
    for file in ROOT.iterdir():
        if file.name not in ("sidecar", ".git", ".hypothesis", ".pytest_cache"):
            (folder / file.name).symlink_to(file)
    shutil.copytree(ROOT / "sidecar", folder / "sidecar")
    if changed is not None:
        file = folder / "sidecar" / changed.file
        text = file.read_text()
        if text.count(changed.old) != 1:
            raise ValueError(f"{changed.name}: its text is there {text.count(changed.old)} times")
        text = text.replace(changed.old, changed.new)
        compile(text, str(file), "exec")
        file.write_text(text)
    return folder


def run(folder: Path, tests: Iterable[str], **variables: str) -> tuple[int, str]:
    """Return pytest's exit code for ``tests`` in a copy, and the last line that it says.

    ``variables``: of its environment.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(folder)} | variables
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "0 failed: it takes for ever"
    finally:
        shutil.rmtree(folder)
    says = [line for line in done.stdout.splitlines() if re.search(r" in [0-9.]+s", line)]
    return done.returncode, says[-1] if says else done.stdout[-500:] + done.stderr[-500:]


def fails(mutation: Mutation, work: Path) -> bool:
    """Return whether its test fails: not its fixtures, and not pytest."""
    folder = copy_of_the_sidecar(work, mutation)
    code, says = run(folder, [mutation.test], TEST_WAIT_SECONDS=str(WAIT_SECONDS))
    noticed = code == 1 and re.search(r"\b[0-9]+ failed", says) is not None
    print(f"{'noticed' if noticed else 'NOT NOTICED'}: {mutation.name} ({says})", flush=True)
    return noticed


def main() -> int:
    """Return 0 when each mutation is noticed by its test."""
    parser = argparse.ArgumentParser(prog="make conformance-mutants")
    parser.add_argument("-k", dest="wanted", default="", help="part of a row's name")
    wanted = parser.parse_args().wanted
    mutations = [mutation for mutation in MUTATIONS if wanted in mutation.name]
    tests = sorted({mutation.test for mutation in mutations})
    with (
        tempfile.TemporaryDirectory(prefix="mutations-") as work,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        unchanged = pool.submit(run, copy_of_the_sidecar(Path(work)), tests)
        noticed = list(pool.map(lambda mutation: fails(mutation, Path(work)), mutations))
        code, says = unchanged.result()
    print(f"unchanged: {says}")
    print(f"{len(noticed)} mutations, {noticed.count(False)} not noticed")
    return int(code != 0 or not all(noticed))


if __name__ == "__main__":
    sys.exit(main())
