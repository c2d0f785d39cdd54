"""Read ``Settings`` from YAML files and ``SIDECAR_…`` in the environment.

Each problem is one line that shows no value.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.settings.adapter import ADAPTER
from sidecar.settings.document import Settings
from sidecar.settings.reference import all_keys, names_below, nearest

PREFIX = "SIDECAR_"

_MESSAGES = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dataclass_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
    "missing": "is required",
    "model_attributes_type": "must be a mapping",
    "string_type": "must be text, in quotes when it looks like a number or a date",
    "tuple_type": "must be a list",
    "union_tag_not_found": "is required",
}
"""Messages for pydantic's kinds of errors, in the words of YAML."""


class ConfigurationError(Exception):
    """The configuration cannot be used.

    ``problems`` has one printable line for each reason, without any value.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [_printable(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class _Loader(yaml.SafeLoader):
    """Load YAML that has one reading: no aliases, and keys that are text and stand once."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _refused("aliases are not supported; quote a text that begins with *", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refused(
                    "a key must be text; quote one that looks like something else", key.start_mark
                )
            if key.value in seen:
                raise _refused(f"{key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # What PyYAML raises for 2001-99-99, !!int x, !!bool x, or a number of 5,000 digits.
            raise _refused(
                "a value that is none of its type; quote it if it is text", node.start_mark
            ) from None

    def refuse_tag(self, node: yaml.Node) -> Any:
        """Raise an error without the tag, which PyYAML would quote: it may be a password."""
        raise _refused("unknown tag; quote a text that begins with !", node.start_mark)


_Loader.add_constructor(None, _Loader.refuse_tag)


def _refused(why: str, mark: yaml.Mark | None) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, why, mark)


@dataclass(frozen=True, slots=True)
class Document:
    """What files and environment say. ``sources`` has for each path the place that set it."""

    values: dict[str, Any]
    sources: dict[tuple[str, ...], str]
    files: Sequence[Path]


def load_settings(files: Sequence[Path], environment: Mapping[str, str]) -> Settings:
    """Return the settings. Later files override earlier ones; the environment overrides all.

    ``SIDECAR_PACS__URL=…`` sets ``pacs.url``. Raises ``ConfigurationError``.
    """
    return validated(read_document(files, environment))


def read_document(files: Sequence[Path], environment: Mapping[str, str]) -> Document:
    """Return the merged document, which is not validated. Raises ``ConfigurationError``."""
    document = Document({}, {}, files)
    problems: list[str] = []
    for file in files:
        try:
            _merge(document.values, _read(file), str(file), document.sources, ())
        except ConfigurationError as error:
            problems += error.problems
    for name, value in sorted(environment.items()):
        if name.startswith(PREFIX) and "__" in name:
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            new = _nested(path, _scalar(path, value))
            _merge(document.values, new, f"environment {name}", document.sources, ())
    if problems:
        raise ConfigurationError(problems)
    return document


def validated(document: Document) -> Settings:
    """Return the settings of a document. Raises ``ConfigurationError``."""
    try:
        settings = ADAPTER.validate_python(document.values)
    except ValidationError as error:
        lines = [_line(problem, document) for problem in error.errors()]
        raise ConfigurationError(list(dict.fromkeys(lines))) from None
    # The settings do not show whether a file that is the default was written.
    is_written = "file" in document.values.get("fhir", {}).get("catalog", {})
    if is_written and settings.catalog_store() != "sqlite":
        source = document.sources["fhir", "catalog", "file"]
        what = "fhir.catalog.file needs fhir.catalog.store: sqlite; set that, or leave file out"
        raise ConfigurationError([f"{source}: {what}"])
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        loaded = _parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([f"{file}: is not UTF-8 text"]) from None
    except _NotYaml as error:
        raise ConfigurationError([f"{file}: {error}"]) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigurationError([f"{file}: must be a mapping of sections such as pacs and ehr"])
    return loaded


class _NotYaml(Exception):
    """A text is not YAML. The message has the place and the reason, without any value."""


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise _NotYaml("is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        # PyYAML quotes the file behind "handle".
        what = str(getattr(error, "problem", None) or "a character that is not allowed").partition(
            " handle "
        )[0]
        prefix = "" if isinstance(error, yaml.constructor.ConstructorError) else "is not YAML: "
        raise _NotYaml(where + prefix + what) from None


def _merge(
    into: dict[str, Any],
    new: Mapping[str, Any],
    source: str,
    sources: dict[tuple[str, ...], str],
    path: tuple[str, ...],
) -> None:
    for key, value in new.items():
        here = (*path, str(key))
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            sources[here] += f" + {source}"
            _merge(old, value, source, sources, here)
        elif isinstance(value, dict):
            into[key] = {}
            sources[here] = source
            _merge(into[key], value, source, sources, here)
        else:
            into[key] = value
            sources[here] = source


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _scalar(path: Sequence[str], value: str) -> Any:
    """Return what a value of the environment means.

    Lists, mappings, null, true and false are read as YAML, unless ``path`` is a secret. Anything
    else is the text itself.
    """
    looks_like_yaml = value[:1] in ("[", "{") or value in ("null", "true", "false")
    if looks_like_yaml and not _is_secret(path):
        try:
            return _parse(value)
        except _NotYaml:
            return value
    return value


def _line(error: ErrorDetails, document: Document) -> str:
    kind, sources = error["type"], document.sources
    path = _written_path(error["loc"], document.values)
    source = next(
        (sources[path[:end]] for end in range(len(path), 0, -1) if path[:end] in sources),
        " + ".join(str(file) for file in document.files) or "configuration",
    )
    message = _MESSAGES.get(kind) or re.sub(
        "^(Input|String) should", "must", error["msg"].removeprefix("Value error, ")
    )
    if kind == "dataclass_type" and error["input"] is None:
        message = "is empty: give it keys, or leave it out"
    if kind.startswith("union_tag"):
        path = (*path, "method")
    if kind == "union_tag_invalid":  # pydantic's own text quotes the value.
        message = f"must be one of {error['ctx']['expected_tags']}"
    if path and path[-1] == "[key]":  # A name that the mapping does not know.
        path, message = (
            path[:-1],
            f"unknown key (known here: {error.get('ctx', {}).get('expected', '')})",
        )
    if kind == "unexpected_keyword_argument":
        message = "unknown key" + _suggestion(path, document.values)
    return ": ".join(filter(None, (source, ".".join(path), message)))


def _written_path(location: tuple[int | str, ...], document: Any) -> tuple[str, ...]:
    """Return the path as the file has it, without what pydantic puts in for parts of unions."""
    path: list[str] = []
    here: Any = document
    for step in location:
        is_there = not isinstance(step, str) or (isinstance(here, dict) and step in here)
        is_tag = isinstance(here, dict) and here.get("method") == step
        is_type = not str(step).isidentifier() and step != "[key]"  # "constrained-str"
        if not is_there and (is_tag or is_type):
            continue
        path.append(str(step))
        if isinstance(here, dict):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
    return tuple(path)


def _suggestion(path: Sequence[str], document: Mapping[str, Any]) -> str:
    here = names_below(path[:-1], document)
    known = f" (known here: {', '.join(here)})" if here else ""
    methods = [method for key in all_keys() if key.path == tuple(path) for method in key.methods]
    if methods:
        return f"; it is for method {' or '.join(dict.fromkeys(methods))}{known}"
    if "." in path[-1]:
        steps = ".".join(path).split(".")
        return f"; keys are nested: write {': {'.join(steps)}: …{'}' * (len(steps) - 1)}{known}"
    elsewhere = [key.name for key in all_keys() if key.path[-1] == path[-1]]
    begun = [name for name in here if path[-1].startswith(name)]
    near = begun[:1] or difflib.get_close_matches(path[-1], here, 1)
    names = [".".join((*path[:-1], name)) for name in near]
    return did_you_mean(elsewhere[:3] or names or nearest(path)) + known


def did_you_mean(names: Sequence[str]) -> str:
    """Return the end of a line about an unknown key: the keys that may be meant."""
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _is_secret(path: Sequence[str]) -> bool:
    return any(key.path == tuple(path) and key.kind.startswith("secret") for key in all_keys())


def _printable(text: str) -> str:
    """Return the text in one line: control characters, as a key may have them, are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
