"""Tables of docs/configuration.md, made of the models: ``python -m tests.settings_tables``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidecar.settings.document import Settings

DOCUMENT = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = "| key | type | default | |\n| --- | --- | --- | --- |\n"

_TABLE = re.compile(r"<!-- (\S+) -->\n(?:\|.*\n)*")
_NAMES = {"uri": "URL", "path": "file", "password": "secret"}


def tables() -> dict[str, str]:
    """Return Markdown tables by marker: a section, or ``key: method`` for a variant."""
    schema = Settings.model_json_schema()
    return {name: HEAD + "".join(rows) for name, rows in _sections(schema, schema["$defs"])}


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
        f"row without a marker: {row}" for row in stray.splitlines() if row.startswith("| `")
    ]


def _missing(rows: str, there: str) -> list[str]:
    return [row for row in rows.splitlines() if row not in there.splitlines()]


def _sections(schema: dict[str, Any], models: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for section, field in schema["properties"].items():
        rows: list[str] = []
        variants: list[tuple[str, list[str]]] = []
        _walk(section, _resolve(field, models), models, rows, variants)
        yield section, rows
        yield from variants


def _walk(
    path: str,
    model: dict[str, Any],
    models: dict[str, Any],
    rows: list[str],
    variants: list[tuple[str, list[str]]],
) -> None:
    for name, field in model["properties"].items():
        key, resolved = f"{path}.{name}", _resolve(field, models)
        if "properties" in resolved:
            _walk(key, resolved, models, rows, variants)
            continue
        rows.append(_row(key, field, name in model.get("required", ())))
        if "$ref" in (named := field.get("additionalProperties") or {}):
            _walk(f"{key}.<name>", _resolve(named, models), models, rows, variants)
        if "items" in field and "$ref" in field["items"]:
            _walk(f"{key}[]", _resolve(field["items"], models), models, rows, variants)
        for variant in _variants(field):
            found: list[str] = []
            _walk(key, _resolve(variant, models), models, found, variants)
            methods = _choices(_resolve(variant, models)["properties"]["method"])
            variants.append((f"{key}:{'|'.join(methods)}", found))


def _variants(field: dict[str, Any]) -> list[dict[str, Any]]:
    """By ``method``, whether or not the whole may be null too."""
    choices = [field, *field.get("anyOf", ())]
    return [variant for choice in choices for variant in choice.get("oneOf", ())]


def _row(key: str, field: dict[str, Any], required: bool) -> str:
    default = "**required**" if required else f"`{_default(field['default'])}`"
    return f"| `{key}` | {_type(field)} | {default} | {field['description']} |\n"


def _default(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _type(field: dict[str, Any]) -> str:
    if "oneOf" in field:
        return "mapping with `method`"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if choices := _choices(field):
        return ", ".join(f"`{choice}`" for choice in choices)
    if field["type"] == "object":
        keys = _type(field["propertyNames"]) if "propertyNames" in field else "`<name>`"
        values = field["additionalProperties"]
        return f"mapping of {keys}" if "$ref" in values else f"mapping of {keys} to {_type(values)}"
    if field["type"] == "array":
        return "list" if "$ref" in field["items"] else f"list of {_type(field['items'])}"
    if field["type"] in ("integer", "number"):
        return f"{field['type']} {_range(field)}"
    if field["type"] == "string":
        return _NAMES.get(field.get("format", ""), "text")
    return {"boolean": "`true`, `false`", "null": "`null`"}[field["type"]]


def _range(field: dict[str, Any]) -> str:
    low = (
        f"over {field['exclusiveMinimum']:g}"
        if "exclusiveMinimum" in field
        else f"{field['minimum']:,}"
    )
    return f"{low} to {field['maximum']:,}"


def _choices(field: dict[str, Any]) -> list[str]:
    return [field["const"]] if "const" in field else list(field.get("enum", ()))


def _resolve(field: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref")
    found: dict[str, Any] = models[reference.rpartition("/")[2]] if reference else field
    return found


if __name__ == "__main__":
    DOCUMENT.write_text(put_into(DOCUMENT.read_text()))
