"""The text of ``config show --explain``: what keys mean, their values, and where those are set."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sidecar.settings.adapter import ADAPTER
from sidecar.settings.load import ConfigurationError, Document, did_you_mean, validated
from sidecar.settings.reference import Key, all_keys, nearest

_SHORTEST_WORD = 3


def explain(wanted: str, document: Document | None) -> str:
    """Return the text about a key, a section, or all keys whose names begin with ``wanted``.

    Without a document it has no values. Raises ``ConfigurationError`` for a document that is not
    valid, and with the nearest keys where none is wanted.
    """
    below = (f"{wanted}.", f"{wanted}[")
    keys = [key for key in all_keys() if key.name == wanted or key.name.startswith(below)]
    keys = keys or [key for key in all_keys() if wanted and key.name.startswith(wanted)]
    if not keys:
        near = did_you_mean(_containing(wanted) or nearest(wanted.split(".")))
        raise ConfigurationError([f"{wanted}: unknown key{near}"])
    effective = {} if document is None else ADAPTER.dump_python(validated(document), mode="json")
    return "\n\n".join("\n  ".join(_lines(key, effective, document)) for key in keys)


def _containing(word: str) -> list[str]:
    """Return the keys whose names contain a word, the first ten; none for a shorter text."""
    is_word = len(word) >= _SHORTEST_WORD
    names = dict.fromkeys(key.name for key in all_keys() if is_word and word in key.name)
    return list(names)[:10]


def _lines(key: Key, effective: dict[str, Any], document: Document | None) -> Iterator[str]:
    yield key.name + (f" (method {' or '.join(key.methods)})" if key.methods else "")
    yield key.description
    yield "type: " + key.kind.replace("`", "")
    yield "default: " + ("none, a value is required" if key.default is None else key.default)
    if document is None:
        return
    for path, value in _at(effective, key.path, key.methods):
        name = f"{'.'.join(path)}: " if "*" in key.path else ""
        text = (
            value
            if isinstance(value, str) and value.isprintable()
            else json.dumps(value, ensure_ascii=False)
        )
        yield f"value: {name}{text} ({_source(path, document)})"


def _at(
    values: Any, pattern: tuple[str, ...], methods: tuple[str, ...], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the paths that ``pattern`` matches, each with its value."""
    if not pattern:
        yield path, values
        return
    items = _items(values)
    if len(pattern) == 1 and methods and items.get("method") not in methods:
        return
    for step in items if pattern[0] == "*" else [pattern[0]]:
        if step in items:
            yield from _at(items[step], pattern[1:], methods, (*path, step))


def _items(values: Any) -> Mapping[str, Any]:
    if isinstance(values, list):
        return {str(position): value for position, value in enumerate(values)}
    return values if isinstance(values, dict) else {}


def _source(path: tuple[str, ...], document: Document) -> str:
    """Return the file and line that set a value, or the environment's variable, or ``default``."""
    here: Any = document.values
    for step in path:
        if step not in (items := _items(here)):
            return "default"
        here = items[step]
    ends = range(len(path), 0, -1)
    source = next(document.sources[path[:end]] for end in ends if path[:end] in document.sources)
    file = next((file for file in document.files if str(file) == source), None)
    return source if file is None else f"{source}:{_line(file, path)}"


def _line(file: Path, path: tuple[str, ...]) -> int:
    """Return the line of a path that is in the file."""
    node: Any = yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
    mark = node.start_mark
    for step in path:
        if isinstance(node, yaml.SequenceNode):
            node = node.value[int(step)]
            mark = node.start_mark
        elif isinstance(node, yaml.MappingNode):
            mark, node = next(
                (key.start_mark, value) for key, value in node.value if key.value == step
            )
    return int(mark.line) + 1
