"""What a section of the settings is, and how its fields are described."""

import ast
import inspect
import sys
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, dataclass_transform


@cache
def _docstrings(module: str) -> dict[tuple[str, str], str]:
    """Return the docstrings of fields in a module, by the names of class and field."""
    docstrings = {}
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    for section in (node for node in body if isinstance(node, ast.ClassDef)):
        for declared, text in pairwise(section.body):
            match declared, text:
                case (
                    ast.AnnAssign(target=ast.Name(name)),
                    ast.Expr(value=ast.Constant(value=str(docstring))),
                ):
                    docstrings[section.name, name] = " ".join(docstring.split())
    return docstrings


def _describe(schema: dict[str, Any], section: type) -> None:
    """Add the docstrings of the fields to the JSON Schema of a section."""
    for name, described in schema["properties"].items():
        for kind in section.__mro__[:-1]:
            if docstring := _docstrings(kind.__module__).get((kind.__name__, name)):
                described["description"] = docstring


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Section:
    """A part of the configuration, a frozen dataclass. Unknown keys are errors.

    The docstrings of fields are their descriptions in the JSON Schema.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "hide_input_in_errors": True,
        "json_schema_extra": _describe,
    }

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True, eq=False)(cls)
