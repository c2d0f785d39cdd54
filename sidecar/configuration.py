"""YAML files + ``SIDECAR_…`` environment -> ``Settings``, or one clear line per problem."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from sidecar.settings import Settings

PREFIX = "SIDECAR_"


class ConfigurationError(Exception):
    """The configuration cannot be used; ``problems`` has a line for each reason, without any value."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: which one would count is not for a parser to choose."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_settings(files: Sequence[Path], environment: Mapping[str, str]) -> Settings:
    """Return the settings of the files, later ones over earlier ones, and the environment over them all.

    ``SIDECAR_PACS__URL=…`` sets ``pacs.url``; a value is read as YAML. Raises ``ConfigurationError``.
    """
    document: dict[str, Any] = {}
    sources: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    for file in files:
        try:
            _merge(document, _read(file), str(file), sources, ())
        except ConfigurationError as error:
            problems += error.problems
    for name, value in sorted(environment.items()):
        if name.startswith(PREFIX) and "__" in name:
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            _merge(document, _nested(path, _scalar(value)), f"environment {name}", sources, ())
    if problems:
        raise ConfigurationError(problems)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        default = " + ".join(str(file) for file in files) or "configuration"
        lines = [_line(one["loc"], one["type"], one["msg"], document, sources, default) for one in error.errors()]
        raise ConfigurationError(list(dict.fromkeys(lines))) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as stream:
            loaded = yaml.load(stream, _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigurationError([f"{file}: cannot be read: {error.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "not UTF-8"
        raise ConfigurationError([f"{file}:{where} is not YAML: {what}"]) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigurationError([f"{file}: must be a mapping of sections such as pacs and ehr"])
    return loaded


def _merge(
    into: dict[str, Any], new: Mapping[str, Any], source: str, sources: dict[tuple[str, ...], str],
    path: tuple[str, ...],
) -> None:  # fmt: skip
    for key, value in new.items():
        here = (*path, str(key))
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
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


def _scalar(value: str) -> Any:
    """Lists, mappings, null, true … as YAML; anything else is the text itself (an id of digits stays text)."""
    if value[:1] in ("[", "{") or value in ("null", "true", "false"):
        try:
            return yaml.load(value, _Loader)  # noqa: S506
        except yaml.YAMLError:
            return value
    return value


def _line(
    location: tuple[int | str, ...], kind: str, message: str, document: Mapping[str, Any],
    sources: Mapping[tuple[str, ...], str], default: str,
) -> str:  # fmt: skip
    path = _written_path(location, document)
    source = next((sources[path[:end]] for end in range(len(path), 0, -1) if path[:end] in sources), default)
    if kind == "extra_forbidden":
        message = "unknown key" + _suggestion(path)
    elif kind == "missing":
        message = "is required"
    elif kind == "union_tag_not_found":
        message = "needs a method"
    return f"{source}: {'.'.join(path) or '(top)'}: {message.removeprefix('Value error, ')}"


def _written_path(location: tuple[int | str, ...], document: Any) -> tuple[str, ...]:
    """The path as the file has it: pydantic puts the tag of a union (``client_secret_basic``) in between."""
    path: list[str] = []
    here: Any = document
    for position, step in enumerate(location):
        last = position == len(location) - 1
        if isinstance(here, dict) and step not in here and not last and here.get("method") == step:
            continue
        path.append(str(step))
        if isinstance(here, dict):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
    return tuple(path)


def _suggestion(path: Sequence[str]) -> str:
    known = _keys_at(Settings, path[:-1])
    near = difflib.get_close_matches(path[-1], known, 1)
    did_you_mean = f"; did you mean {near[0]}?" if near else ""
    return did_you_mean + (f" (known here: {', '.join(sorted(known))})" if known else "")


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> set[str]:
    """The keys that a section may have; all variants' when it is a union."""
    models = [model]
    for step in path:
        if step.isdigit():
            continue
        found = [_models(one.model_fields[step].annotation) for one in models if step in one.model_fields]
        models = [one for several in found for one in several]
    return {name for one in models for name in one.model_fields}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in get_args(annotation) for found in _models(one)]
