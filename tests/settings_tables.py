"""Tables of docs/configuration.md, made of the models: ``python -m tests.settings_tables``."""

import re
from pathlib import Path

from sidecar.settings.reference import Key, all_keys

DOCUMENT = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = "| key | type | default | |\n| --- | --- | --- | --- |\n"

_TABLE = re.compile(r"<!-- (\S+) -->\n(?:\|.*\n)*")


def tables() -> dict[str, str]:
    """Return Markdown tables by marker: a section, or ``key: method`` for a variant."""
    made: dict[str, str] = {}
    for key in all_keys():
        parent, methods = key.name.rpartition(".")[0], "|".join(key.methods)
        name = f"{parent}:{methods}" if methods else key.path[0]
        made[name] = made.get(name, HEAD) + _row(key)
    return made


def _row(key: Key) -> str:
    default = "**required**" if key.default is None else f"`{key.default}`"
    return f"| `{key.name}` | {key.kind} | {default} | {key.description} |\n"


def put_into(text: str) -> str:
    """Return the document with the table below each ``<!-- marker -->`` as the models have it."""
    made = tables()
    return _TABLE.sub(lambda found: f"<!-- {found[1]} -->\n{made.get(found[1], '')}", text)


def differences(text: str) -> list[str]:
    """Return a line for each row of the document that is missing, extra or different."""
    made = tables()
    written = {found[1]: found[0].partition("\n")[2] for found in _TABLE.finditer(text)}
    problems = [f"no table {name}" for name in made.keys() - written.keys()]
    problems += [f"extra table {name}" for name in written.keys() - made.keys()]
    for name in made.keys() & written.keys():
        problems += [
            f"{name}: missing or different: {row}" for row in _missing(made[name], written[name])
        ]
        problems += [
            f"{name}: extra or different: {row}" for row in _missing(written[name], made[name])
        ]
    stray = _TABLE.sub("", text)
    return problems + [
        f"row without a marker: {row}" for row in re.findall(r"^\| `[\w\[\]]+\..*", stray, re.M)
    ]


def _missing(rows: str, there: str) -> list[str]:
    return [row for row in rows.splitlines() if row not in there.splitlines()]


if __name__ == "__main__":
    DOCUMENT.write_text(put_into(DOCUMENT.read_text()))
