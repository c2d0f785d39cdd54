"""JSON Schemas that others publish, as check-jsonschema has them: no network is needed."""

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
