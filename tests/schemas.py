"""JSON Schemas, ours and those that check-jsonschema has of others: no network is needed."""

import json
import subprocess
import sys
from pathlib import Path


def valid(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Compare YAML files with a schema by name (``compose-spec``, ``github-workflows``, …)."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        f"vendor.{schema}",
        *map(str, files),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def misfits(schema: Path, *files: Path) -> set[Path]:
    """Return those of the files that are not as ``schema`` says."""
    command = [sys.executable, "-m", "check_jsonschema", "-o", "json", "--schemafile", str(schema)]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, timeout=60, check=False
    )
    return {Path(error["filename"]) for error in json.loads(done.stdout)["errors"]}
