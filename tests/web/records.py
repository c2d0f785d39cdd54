"""What the trail recorded."""

import json
from pathlib import Path
from typing import Any


def events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def told(file: Path) -> list[tuple[str, str]]:
    return [(one["outcome"], one["outcomeDesc"]) for one in events(file)]


def to(file: Path) -> dict[str, Any]:
    return {"sink": "file", "file": str(file)}
