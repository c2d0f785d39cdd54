"""What a client may send for a token."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECTION = re.search(
    r"^## Token forms$(.*?)^## ",
    (Path(__file__).parent.parent.parent / "docs/ehr.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Form:
    """One row. ``in_header``: it is what the header of a JWT says."""

    server: str
    token: str
    says: dict[str, Any]
    in_header: bool
    outcome: str


def _forms() -> list[Form]:
    assert SECTION is not None
    found = []
    for line in SECTION[1].splitlines():
        if not line.startswith("|") or line.startswith(("| ---", "| server")):
            continue
        server, token, says, outcome = (cell.strip() for cell in line.strip("|").split(" | "))
        in_header = says.startswith("header ")
        found.append(
            Form(
                server,
                token,
                json.loads(says.removeprefix("header ").strip("`")),
                in_header,
                outcome,
            )
        )
    return found


FORMS = _forms()
