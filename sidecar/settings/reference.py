"""Every key of the settings, read from their JSON Schema.

The tables of ``docs/configuration.md``, ``config show --explain`` and the lines about unknown keys
are made of these.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from typing import Any

from sidecar.settings.adapter import ADAPTER

_TEXT_FORMATS = {"uri": "URL", "path": "file", "password": "secret"}
_LEAST_ALIKE = 0.6
"""Ratio of ``difflib`` below which a name is no suggestion, as in ``get_close_matches``."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key.

    ``path`` has ``*`` for each element of a list or a mapping, which ``name`` writes as ``[]`` and
    ``.<name>``. ``methods`` are those with which a ``client`` or ``auth`` has the key; ``()``
    elsewhere. ``kind`` says the type, the bounds and the unit. ``default`` is ``None`` where a
    value is required.
    """

    name: str
    path: tuple[str, ...]
    methods: tuple[str, ...]
    kind: str
    default: str | None
    description: str


def names_below(path: Sequence[str], document: Mapping[str, Any]) -> list[str]:
    """Return the names that the mapping at ``path`` may have, with its ``method`` if it has one."""
    here: Any = document
    for step in path:
        here = here[int(step) if isinstance(here, list) else step]
    below = {
        key.path[len(path)]
        for key in all_keys()
        if len(path) < len(key.path)
        and all(step in ("*", there) for step, there in zip(key.path, path, strict=False))
        and (len(key.path) > len(path) + 1 or not key.methods or here.get("method") in key.methods)
    }
    return sorted(below - {"*"})


@cache
def all_keys() -> tuple[Key, ...]:
    """Return all keys, section by section in the order of the models."""
    schema = ADAPTER.json_schema()
    return tuple(_Walk(schema.pop("$defs")).keys(schema, "", (), ()))


def nearest(path: Sequence[str]) -> list[str]:
    """Return the keys that are most like an unknown one, three at most, the nearest first.

    The section counts as a part of the name: ``pacs.max_connections`` is like
    ``limits.pacs_connections``.
    """
    written, scores = "_".join(path), {}
    for key in all_keys():
        likeness = max(_likeness(path[-1], key.path[-1]), _likeness(written, key.path[-1]))
        scores[key.name] = likeness, _likeness(written, key.name)
    least = max(_LEAST_ALIKE, max(scores.values())[0] - 0.15)
    near = sorted((name for name in scores if scores[name][0] > least), key=scores.__getitem__)
    return near[:-4:-1]


def _likeness(written: str, name: str) -> float:
    return SequenceMatcher(None, written, name).ratio()


@dataclass(frozen=True, slots=True)
class _Walk:
    models: dict[str, Any]

    def keys(
        self, model: dict[str, Any], prefix: str, path: tuple[str, ...], methods: tuple[str, ...]
    ) -> Iterator[Key]:
        variants: list[Key] = []
        for last, field in model["properties"].items():
            name, here, section = prefix + last, (*path, last), self._model(field)
            if "properties" in section:
                yield from self.keys(section, f"{name}.", here, methods)
                continue
            default = None if last in model.get("required", ()) else _written(field["default"])
            kind = _kind(field)
            yield Key(name, here, methods, kind, default, field["description"])
            for parts, mark in (("additionalProperties", ".<name>."), ("items", "[].")):
                if "$ref" in (element := field.get(parts) or {}):
                    yield from self.keys(self._model(element), name + mark, (*here, "*"), methods)
            for choice in (field, *field.get("anyOf", ())):
                for variant in map(self._model, choice.get("oneOf", ())):
                    of = tuple(_choices(variant["properties"]["method"]))
                    variants += self.keys(variant, f"{name}.", here, of)
        yield from variants

    def _model(self, field: dict[str, Any]) -> dict[str, Any]:
        reference = field.get("$ref")
        found: dict[str, Any] = self.models[reference.rpartition("/")[2]] if reference else field
        return found


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _kind(field: dict[str, Any]) -> str:
    if "oneOf" in field:
        return "mapping with `method`"
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"])
    if choices := _choices(field):
        return ", ".join(f"`{choice}`" for choice in choices)
    if field["type"] == "object":
        keys = _kind(field["propertyNames"]) if "propertyNames" in field else "`<name>`"
        values = field["additionalProperties"]
        return f"mapping of {keys}" if "$ref" in values else f"mapping of {keys} to {_kind(values)}"
    if field["type"] == "array":
        return "list" if "$ref" in field["items"] else f"list of {_kind(field['items'])}"
    if field["type"] in ("integer", "number"):
        return f"{field['type']} {_range(field)} ({field['unit']})"
    if field["type"] == "string":
        return _TEXT_FORMATS.get(field.get("format", ""), "text")
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
