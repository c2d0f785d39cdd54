"""Pages of ``docs/reference``, made of the program: ``python -m tests.documents.reference``."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import click
from aiohttp import web

from sidecar.access import reasons
from sidecar.access.reasons import STATUS, Reason
from sidecar.cli import main
from sidecar.common.errors import Problem
from sidecar.telemetry.metrics import Metrics
from sidecar.web import errors
from sidecar.web.admin import Readiness, create_admin
from sidecar.web.dicomweb_handlers import DicomWeb
from sidecar.web.fhir_documents import FhirDocuments
from sidecar.web.fhir_handlers import ImagingFhir
from sidecar.web.routes import create_public

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "reference"
_MADE = "<!-- Made by `python -m tests.documents.reference`; change the code in its place. -->\n"


def pages() -> dict[str, str]:
    """Return the text of each page by the name of its file."""
    made = {"cli.md": _cli, "errors.md": _errors, "metrics.md": _metrics, "routes.md": _routes}
    return {name: f"{_MADE}{page()}" for name, page in made.items()}


def _table(*rows: tuple[str, ...]) -> str:
    head, *body = ("| " + " | ".join(cell or " " for cell in row) + " |\n" for row in rows)
    return head + "| " + " | ".join("---" for _ in rows[0]) + " |\n" + "".join(body)


def _line(text: str | None) -> str:
    """Return a docstring's or help's text as one cell of a table."""
    plain = " ".join(inspect.cleandoc(text or "").split())
    return re.sub(r"``(.+?)``", r"`\1`", plain).replace("|", "\\|")


# --- the command line ---


def _cli() -> str:
    text = "# Command line\n\nExit codes: 0 fine; 1 `check` found something that does not work; "
    text += "2 wrong usage or configuration.\n"
    return text + "".join(_commands(main, "smart-imaging-sidecar"))


def _commands(command: click.Command, name: str) -> Iterator[str]:
    # click keeps the help option of the first context.
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\n## {name}\n\n```\n{name} {usage}\n```\n\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    options = [one for one in command.params if isinstance(one, click.Option)]
    if options:
        yield "\n" + _table(("option", "default", ""), *(_option(one) for one in options))
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from _commands(command.commands[below], f"{name} {below}")


def _option(option: click.Option) -> tuple[str, str, str]:
    kinds = option.type.choices if isinstance(option.type, click.Choice) else ()
    value = "" if option.is_flag else f" {option.metavar or '|'.join(kinds) or 'VALUE'}"
    written = ", ".join(f"`{name}{value}`".replace("|", "\\|") for name in option.opts)
    default = f"`{option.default}`" if option.show_default else ""
    text = _line(option.help) + (" **Required.**" if option.required else "")
    if option.envvar:
        text += f" Environment: `{option.envvar}`."
    return written, default, text


# --- metrics ---


def _metrics() -> str:
    rows = []
    for family in Metrics("0").registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        rows.append((f"`{name}`", family.type, _labels(family.name), f"{family.documentation}."))
    text = "# Metrics\n\nWhat the values mean, and what to look at: "
    text += "[operations](../operations.md#metrics). No label carries an identifier.\n\n"
    return text + _table(("name", "type", "labels", ""), *rows)


def _labels(name: str) -> str:
    by_name = {
        metric._name: metric._labelnames
        for metric in vars(Metrics("0")).values()
        if hasattr(metric, "_labelnames")
    }
    return ", ".join(f"`{label}`" for label in by_name[name])


# --- routes ---


def _routes() -> str:
    public = create_public(
        object.__new__(ImagingFhir),
        object.__new__(FhirDocuments),
        object.__new__(DicomWeb),
        Mock(),
        Mock(),
        cors_origins=(),
        public_url="https://imaging.example.org",
        forwarded_allow_ips=(),
        wado_uri=True,
        capabilities=True,
        is_draining=lambda: False,
        tracing=Mock(),
        customize=None,
    )
    admin = create_admin(Metrics("0"), Readiness({}))
    text = "# Routes\n\nThe name is the label `route` of the metrics. What each route takes and "
    text += "gives: [the public API](../api.md).\n\n## Public listener\n\n"
    text += "`server.port`. `wado-uri` needs `server.wado_uri`; `capability` needs "
    text += "`capabilities.mode`.\n\n"
    text += _table(("path", "methods", "name", ""), *_resources(public))
    text += "\n## Admin listener\n\n`server.admin_port`. Keep it inside.\n\n"
    return text + _table(("path", "methods", ""), *((a, b, d) for a, b, _, d in _resources(admin)))


def _resources(app: web.Application) -> Iterator[tuple[str, str, str, str]]:
    for resource in app.router.resources():
        routes = [route for route in resource if route.method != "OPTIONS"]
        methods = ", ".join(sorted(route.method for route in routes)).replace("*", "any")
        handler = routes[0].handler
        if isinstance(handler, partial):
            handler = handler.func
        summary = (inspect.getdoc(handler) or "").partition("\n\n")[0]
        path = re.sub(r"\{(\w+):[^}]+\}", r"{\1}", resource.canonical)
        yield f"`{path}`", methods, resource.name or "", _line(summary)


# --- errors ---


def _errors() -> str:
    text = (
        "# Errors\n\nEvery error has an OperationOutcome. Its text is for the app; the reason is "
    )
    text += "for operators, in the log, the metrics and the audit trail.\n"
    text += "What an app does about each status: [apps](../apps.md#when-something-is-refused).\n\n"
    text += "## Refusals\n\nThe decision or the token. The app gets the same text for each 404, "
    text += "and for each token that is not accepted (SIA-45).\n\n"
    rows = [(f"`{one}`", str(STATUS[one]), _meaning(one), _shown(one)) for one in Reason]
    text += _table(("reason", "status", "meaning", "text"), *rows)
    text += "\n## Failures\n\nAll else. `…` stands for a part that differs; what to look at is in "
    text += "[operations](../operations.md#logs).\n\n"
    found = sorted(set(failures()))
    cells = [(f"`{one.reason}`", one.status, _line(one.text)) for one in found]
    return text + _table(("reason", "status", "text"), *cells)


def _meaning(reason: Reason) -> str:
    body = ast.parse(inspect.getsource(reasons.Reason)).body[0]
    assert isinstance(body, ast.ClassDef)
    for before, after in zip(body.body, body.body[1:], strict=False):
        match before, after:
            case (
                ast.Assign(targets=[ast.Name(id=reason.name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                return _line(text)
    raise ValueError(f"no text below {reason.name}")


def _shown(reason: Reason) -> str:
    return errors._TEXT.get(reason, errors._NOT_FOUND)


@dataclass(frozen=True, order=True)
class Failure:
    """A failure that the source raises; with the text that a client gets."""

    reason: str
    status: str
    text: str


def failures() -> Iterator[Failure]:
    """Yield every call of a ``Problem`` in the package whose reason is written there."""
    kinds = dict(_kinds())
    trees = [ast.parse(file.read_text()) for file in sorted((ROOT / "sidecar").rglob("*.py"))]
    texts = {name: text for tree in trees for name, text in _constants(tree)}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        kind = kinds.get(node.func.id)
        reason = next((_text(one.value) for one in node.keywords if one.arg == "reason"), "…")
        if kind is None or reason == "…":
            continue
        first = node.args[0] if node.args else None
        text = texts.get(first.id, "…") if isinstance(first, ast.Name) else _text(first)
        yield Failure(reason, str(kind.status), errors._NOT_FOUND if kind.status == 404 else text)


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the texts that have a name in a module."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _text(value) != "…":
                yield name, _text(value)


def _kinds(kind: type[Problem] = Problem) -> Iterator[tuple[str, type[Problem]]]:
    """Yield the kinds of failures by name; the modules that have them are imported."""
    for module in ("authorization.limits", "dicomweb.response_head", "web.negotiate", "web.target"):
        importlib.import_module(f"sidecar.{module}")
    for below in kind.__subclasses__():
        yield below.__name__, below
        yield from _kinds(below)


def _text(node: Any) -> str:
    """Return what is written, with ``…`` in the place of what is worked out."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
    return "…"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in pages().items():
        (FOLDER / name).write_text(page)
